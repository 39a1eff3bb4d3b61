"""Roles in a cluster formed by joining: odd voters, standbys in place of the lost, spread."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvshim.config.role_numbers import RoleNumbers
from kvshim.logs import Logger
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.role_steps import MemberRole, Step, needs_standby, next_step, role_of
from kvshim.server.roles import LOOK_SECONDS, Roles

VOTER, STANDBY, SPARE = MemberRole.VOTER, MemberRole.STANDBY, MemberRole.SPARE


@dataclass
class Model:
    """A cluster whose member 1 leads and was not joined; steps take effect at once."""

    wanted: RoleNumbers = field(default_factory=RoleNumbers)
    members: dict[int, Member] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    even_seen: int = 0

    def add(self, number: int, role: MemberRole, domain: str = "") -> None:
        self.members[number] = Member(id=number, managed=number != 1, failure_domain=domain)
        self.give(number, role)

    def join(self, number: int, domain: str = "") -> None:
        """As admission does it, and then all that follows."""
        wants = needs_standby(list(self.members.values()), self.wanted)
        self.add(number, STANDBY if wants else SPARE, domain)
        self.settle()

    def give(self, number: int, role: MemberRole) -> None:
        self.members[number].learner = role is not VOTER
        self.members[number].spare = role is SPARE

    def having(self, role: MemberRole) -> set[int]:
        return {number for number, member in self.members.items() if role_of(member) is role}

    def domains(self, role: MemberRole) -> Counter[str]:
        return Counter(self.members[number].failure_domain for number in self.having(role))

    def step(self) -> Step | None:
        there = set(self.members) - self.lost
        return next_step(
            list(self.members.values()),
            1,
            wanted=self.wanted,
            ready=self.having(STANDBY) & there,
            lost=self.lost,
            present=there,
        )

    def settle(self) -> list[Step]:
        """Every step until there is none."""
        steps: list[Step] = []
        while (step := self.step()) is not None:
            assert len(steps) < 100, f"it never settles: {steps[-6:]}"
            assert step.member_id != 1, "the leader, whose role was given by hand, moves"
            steps.append(step)
            self.give(step.member_id, step.role)
        return steps


def cluster(
    voters: str, standbys: str = "", spares: str = "", wanted: RoleNumbers | None = None
) -> Model:
    """Numbered from 1; a letter each, which is the domain, or a dot for none."""
    model = Model(wanted or RoleNumbers())
    number = 0
    for role, domains in ((VOTER, voters), (STANDBY, standbys), (SPARE, spares)):
        for domain in domains:
            number += 1
            model.add(number, role, domain.strip("."))
    return model


@pytest.mark.parametrize(
    ("nodes", "voters", "standbys", "spares"),
    [
        (1, 1, 0, 0),
        (2, 1, 1, 0),
        (3, 3, 0, 0),
        (4, 3, 1, 0),
        (5, 3, 2, 0),
        (6, 3, 2, 1),
        (7, 3, 2, 2),
        (30, 3, 2, 25),
    ],
)
def test_so_many_of_each_role(nodes: int, voters: int, standbys: int, spares: int) -> None:
    model = cluster(".")
    for number in range(2, nodes + 1):
        model.join(number)
    assert [len(model.having(role)) for role in MemberRole] == [voters, standbys, spares]


def test_five_voters_and_no_standby_if_that_is_wanted() -> None:
    model = cluster(".", wanted=RoleNumbers(5, 0))
    for number in range(2, 10):
        model.join(number)
    assert [len(model.having(role)) for role in MemberRole] == [5, 0, 4]


def test_a_lost_voter_is_replaced_by_a_standby_and_that_by_a_spare() -> None:
    model = cluster("...", "..", "..")
    model.lost = {3}
    assert model.settle() == [
        Step(3, STANDBY),
        Step(4, VOTER),
        Step(6, STANDBY),
        Step(3, SPARE),
    ]
    model.lost = set()  # it comes back, and stays what it is
    assert model.settle() == []


def test_a_lost_standby_is_replaced_by_a_spare_that_is_there() -> None:
    model = cluster("...", "..", "..")
    model.lost = {4, 6}
    assert model.settle() == [Step(7, STANDBY), Step(4, SPARE)]


def test_without_a_standby_a_lost_voter_stays() -> None:
    model = cluster("...")
    model.lost = {3}
    assert model.settle() == []


def test_without_a_spare_a_lost_standby_keeps_its_place() -> None:
    model = cluster("...", "..")
    model.lost = {4}
    assert model.settle() == []


def test_two_voters_left_by_a_removal_become_one() -> None:
    model = cluster("..")
    model.settle()
    assert (model.having(VOTER), model.having(STANDBY)) == ({1}, {2})


def test_roles_given_by_hand_stay() -> None:
    members = [Member(id=1), Member(id=2), Member(id=3, learner=True)]
    numbers = RoleNumbers()
    everyone = {1, 2, 3}
    step = next_step(members, 1, wanted=numbers, ready={3}, lost={2}, present=everyone)
    assert step is None


def test_a_learner_that_lags_gets_no_vote() -> None:
    model = cluster(".", "..")
    members = list(model.members.values())
    step = next_step(members, 1, wanted=model.wanted, ready={2}, lost=set(), present={1, 2, 3})
    assert step is None


def test_no_vote_is_taken_while_a_standby_catches_up() -> None:
    """The lost voter's vote is gone, and the standby that is to get one lags for a moment."""
    model = cluster("..", "..")
    everyone = set(model.members)
    members = list(model.members.values())
    step = next_step(members, 1, wanted=model.wanted, ready=set(), lost=set(), present=everyone)
    assert step is None
    alone = next_step(members, 1, wanted=model.wanted, ready=set(), lost={3, 4}, present={1, 2})
    assert alone == Step(2, STANDBY), "it is even, and nobody will make it odd"


def test_fewer_voters_are_wanted_than_there_are() -> None:
    model = cluster(".....", wanted=RoleNumbers(3, 1))
    model.settle()
    assert [len(model.having(role)) for role in MemberRole] == [3, 1, 1]


def test_a_vote_goes_to_the_domain_that_has_none() -> None:
    model = cluster("aab", "abc")
    model.lost = {3}
    steps = model.settle()
    assert steps[:2] == [Step(3, STANDBY), Step(5, VOTER)]
    assert model.domains(VOTER) == {"a": 1, "b": 1, "c": 1}


def test_voters_in_one_rack_spread_when_other_racks_come() -> None:
    model = cluster("a")
    for number, domain in enumerate("aaaabbcc", start=2):
        model.join(number, domain)
    assert model.domains(VOTER) == {"a": 1, "b": 1, "c": 1}
    assert [len(model.having(role)) for role in MemberRole] == [3, 2, 4]
    held = model.domains(VOTER) + model.domains(STANDBY)
    assert sorted(held.values()) == [1, 2, 2]


def test_no_swap_that_makes_nothing_better() -> None:
    for model in (
        cluster("aab", "aa", "aa"),  # the other domain has a voter already
        cluster("aab", "bb", "aabb"),
        cluster("...", "..", "...."),
        cluster("abc", "ab", "cc"),
    ):
        assert model.settle() == []


def test_one_that_copies_the_store_is_waited_for() -> None:
    """A spare in a better place became a standby: nobody goes before it has caught up."""
    model = cluster("abb", "bbc")
    members = list(model.members.values())
    everyone = set(model.members)
    still = next_step(members, 1, wanted=model.wanted, ready={4, 5}, lost=set(), present=everyone)
    assert still is None
    done = next_step(members, 1, wanted=model.wanted, ready={4, 5, 6}, lost=set(), present=everyone)
    assert done is not None
    assert done.member_id in (4, 5, 6)


@pytest.mark.parametrize("seed", range(100))
def test_whatever_comes_and_goes_it_settles_with_odd_voters(seed: int) -> None:
    random = Random(seed)
    model = Model(RoleNumbers(random.choice((1, 3, 5)), random.randrange(4)))
    model.add(1, VOTER, "a")
    for number in range(2, random.randrange(3, 31)):
        model.join(number, random.choice("abcd"))
        if random.random() < 0.3:
            model.lost ^= {random.choice(sorted(set(model.members) - {1}))}
        if random.random() < 0.1:
            gone = random.choice(sorted(set(model.members) - {1}))
            del model.members[gone]
            model.lost.discard(gone)
        model.settle()
        voters = model.having(VOTER)
        assert len(voters) % 2 == 1, f"seed {seed}: {voters}"
        assert len(voters) <= model.wanted.voters
    model.lost = set()
    model.settle()
    there = len(model.members)
    voters = min(model.wanted.voters, there - 1 + there % 2)
    assert len(model.having(VOTER)) == voters, f"seed {seed}"
    standbys = min(model.wanted.standbys, there - voters)
    spare_and_standby = len(model.having(STANDBY)) - standbys
    assert spare_and_standby == 0 or voters < model.wanted.voters, f"seed {seed}"


def roles_of(leadership: Leadership, members: list[Member], **asked: Any) -> Roles:
    """Member 1's, who reaches itself alone, in a cluster that says nothing of roles."""
    book = cast("MemberBook", SimpleNamespace(members=members, own_id=1))
    seams = {"ready": set, "reached": lambda: {1}, "numbers": lambda: None, **asked}
    return Roles(leadership, book, lost_seconds=60, logger=cast("Logger", None), **seams)


async def test_who_no_longer_leads_when_it_is_time_to_look_takes_no_step():
    leadership, looks = Leadership(1, 1.0), []
    roles = roles_of(
        leadership,
        [Member(id=1), Member(id=2, managed=True)],
        reached=lambda: looks.append(leadership.leader_id) or {1},
        now=lambda: LOOK_SECONDS * 0.9,
    )
    running = asyncio.create_task(roles.run())
    # given one that leads when it begins to wait, and then no more
    leadership.observe(1, 1)
    await asyncio.sleep(0)
    leadership.observe(2, 2)
    await asyncio.sleep(LOOK_SECONDS * 0.3)
    assert looks == []
    # and one that leads again
    leadership.observe(1, 3)
    async with asyncio.timeout(5):
        while not looks:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)
    assert looks == [1]
    running.cancel()
    leadership.stop()


async def test_where_no_other_member_may_be_moved_nobody_asks_the_store():
    leadership, asked, clock = Leadership(1, 1.0), [], [0.0]
    members = [Member(id=1, managed=True), Member(id=2)]

    def now() -> float:
        clock[0] += LOOK_SECONDS * 0.999  # so that each look comes a moment after the last
        return clock[0]

    roles = roles_of(
        leadership,
        members,
        ready=lambda: asked.append("ready") or set(),
        numbers=lambda: asked.append("numbers"),
        now=now,
    )
    running = asyncio.create_task(roles.run())
    leadership.observe(1, 1)
    await asyncio.sleep(LOOK_SECONDS * 0.3)
    assert asked == []
    members.append(Member(id=3, managed=True))
    async with asyncio.timeout(5):
        while not asked:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)
    assert asked[:2] == ["ready", "numbers"]
    running.cancel()
    leadership.stop()
