"""A member without data: whom it asks, what it believes, and when others serve its clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kvshim.pb.kvshim.member_pb2 import (
    FollowAnswer,
    FollowRequest,
    Member,
    MemberAttributesRequest,
)
from kvshim.server import following
from kvshim.server.following import Follower
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from raft.transport.options import CallRefused
from tests.transport.serving import LogBook

OWN = 9


def member(number: int, role: str = "voter") -> Member:
    return Member(
        id=number,
        name=f"n{number}",
        learner=role != "voter",
        spare=role == "spare",
        managed=True,
    )


class Others:
    """What the other members answer; none answers who is not here."""

    def __init__(self) -> None:
        self.answers: dict[int, FollowAnswer] = {}
        self.asked: list[int] = []
        self.names: list[str] = []

    async def call(self, to: int, method: str, payload: bytes, seconds: float) -> bytes:
        self.asked.append(to)
        request = FollowRequest.FromString(payload)
        if request.HasField("attributes"):
            self.names.append(request.attributes.name)
        await asyncio.sleep(0.01)
        if to not in self.answers:
            raise CallRefused("refused", "not here")
        return self.answers[to].SerializeToString()


class World:
    """A member with a store that may hold something, among others."""

    def __init__(self, members: Sequence[Member], *, applied: int = 0) -> None:
        self.applied = applied
        self.others = Others()
        self.remembered: list[list[Member]] = []
        self.leadership = Leadership(OWN, 0.5)
        self.book = MemberBook(OWN, members, proposer=None)  # type: ignore[arg-type]
        self.has_data = False

        async def remember(members: Sequence[Member]) -> None:
            self.remembered.append(list(members))

        self.follower = Follower(
            self.book,
            self.leadership,
            call=self.others.call,
            attributes=lambda: MemberAttributesRequest(id=OWN, name="me"),
            applied=lambda: self.applied,
            has_data=lambda: self.has_data,
            remember=remember,
            now=asyncio.get_running_loop().time,
            logger=LogBook(),  # type: ignore[arg-type]
        )

    def answer(self, by: int, members: Sequence[Member], **fields: Any) -> None:
        self.others.answers[by] = FollowAnswer(state=b"s", members=members, **fields)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.follower.run())
        try:
            yield
        finally:
            task.cancel()

    async def run(self, seconds: float = 0.2) -> None:
        async with self.running():
            await asyncio.sleep(seconds)


CLUSTER = [member(1), member(2), member(3), member(OWN, "spare")]


async def test_a_spare_asks_in_turn_until_one_answers_and_then_the_leader() -> None:
    world = World(CLUSTER)
    world.answer(2, CLUSTER, leader_id=3, applied_index=5)
    world.answer(3, CLUSTER, leader_id=3, applied_index=5)
    await world.run()
    assert set(world.others.asked) <= {1, 2, 3}
    assert world.others.asked.count(1) <= 1, "who does not answer is not asked again at once"
    assert world.follower.leader_id == 3
    assert world.others.names[0] == "me"
    assert world.follower.forwards
    assert OWN not in [m.id for m in world.follower.servers()]


async def test_it_learns_its_new_role_and_remembers_the_members() -> None:
    world = World(CLUSTER)
    promoted = [*CLUSTER[:3], member(OWN, "standby")]
    for by in (1, 2, 3):
        world.answer(by, promoted, leader_id=1, applied_index=5)
    await world.run()
    assert world.book.own == promoted[3]
    assert world.remembered == [promoted]
    assert world.follower.forwards, "it is to get the data, and has none yet"
    world.has_data = True
    assert not world.follower.forwards


async def test_an_answer_older_than_the_store_is_not_believed() -> None:
    world = World(CLUSTER, applied=7)
    stale = [*CLUSTER[:3], member(OWN, "standby")]
    for by in (1, 2, 3):
        world.answer(by, stale, leader_id=1, applied_index=7)
    await world.run()
    assert world.book.own == CLUSTER[3]


async def test_a_voter_that_was_replaced_while_it_was_off_finds_out(monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "LEADERLESS_SECONDS", 0.05)
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.05)
    world = World([*CLUSTER[:3], member(OWN)], applied=3)
    world.has_data = True
    told, happened = [], asyncio.Event()
    world.follower.on_spared += [lambda: told.append(True), happened.set]
    for by in (1, 2, 3):
        world.answer(by, CLUSTER, leader_id=1, applied_index=50)
    assert not world.follower.forwards
    async with world.running():
        await asyncio.wait_for(happened.wait(), 10)
        assert world.follower.forwards
        await asyncio.sleep(0.2)
    assert told == [True], "clients that are connected are sent away, once"


async def test_whoever_has_a_leader_asks_nobody(monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "LEADERLESS_SECONDS", 0.05)
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.05)
    world = World([*CLUSTER[:3], member(OWN)], applied=3)
    world.leadership.observe(1, 2)
    await world.run(0.4)
    assert world.others.asked == []


async def test_a_learner_by_hand_is_left_as_etcd_has_it() -> None:
    own = Member(id=OWN, learner=True)
    world = World([member(1), own])
    assert not world.follower.forwards
    assert world.book.refuses_clients()
