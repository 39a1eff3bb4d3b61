"""Who votes in a cluster formed by joining: odd numbers, standbys in place of the lost."""

from __future__ import annotations

import pytest

from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.server.roles import Step, next_step


def cluster(
    voters: list[int], standbys: list[int], *, unmanaged: tuple[int, ...] = (1,)
) -> list[Member]:
    return [
        Member(id=number, learner=number in standbys, managed=number not in unmanaged)
        for number in sorted(voters + standbys)
    ]


def settle(voters: list[int], standbys: list[int], lost: set[int], wanted: int = 3) -> list[Step]:
    """Every step until there is none."""
    steps: list[Step] = []
    while True:
        ready = set(standbys) - lost
        step = next_step(cluster(voters, standbys), 1, ready=ready, lost=lost, wanted=wanted)
        if step is None:
            return steps
        assert len(steps) < 10, "it never settles"
        steps.append(step)
        source, target = (standbys, voters) if step.promote else (voters, standbys)
        source.remove(step.member_id)
        target.append(step.member_id)


@pytest.mark.parametrize(("joined", "voters"), [(0, 1), (1, 1), (2, 3), (3, 3), (4, 3), (9, 3)])
def test_the_voters_of_a_cluster_are_odd(joined: int, voters: int) -> None:
    voting, standbys = [1], list(range(2, 2 + joined))
    settle(voting, standbys, set())
    assert len(voting) == voters
    assert len(standbys) == 1 + joined - voters


def test_five_voters_if_so_many_are_wanted() -> None:
    voting, standbys = [1], [2, 3, 4, 5, 6]
    settle(voting, standbys, set(), wanted=5)
    assert len(voting) == 5


def test_a_lost_voter_is_replaced_by_a_standby() -> None:
    voting, standbys = [1, 2, 3], [4]
    assert settle(voting, standbys, {3}) == [Step(3, promote=False), Step(4, promote=True)]
    assert sorted(voting) == [1, 2, 4]


def test_without_a_standby_a_lost_voter_stays() -> None:
    assert settle([1, 2, 3], [], {3}) == []


def test_two_voters_left_by_a_removal_become_one() -> None:
    voting: list[int] = [1, 2]
    standbys: list[int] = []
    settle(voting, standbys, set())
    assert (voting, standbys) == ([1], [2])


def test_roles_given_by_hand_stay() -> None:
    members = [Member(id=1), Member(id=2), Member(id=3, learner=True)]
    assert next_step(members, 1, ready={3}, lost={2}) is None


def test_a_learner_that_lags_gets_no_vote() -> None:
    assert next_step(cluster([1], [2, 3]), 1, ready={2}, lost=set()) is None
