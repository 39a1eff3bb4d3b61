"""The arithmetic of majorities, as an operator is told it."""

from __future__ import annotations

import pytest

from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.server.status import quorum


def voters(count: int) -> list[Member]:
    return [Member(id=number) for number in range(1, count + 1)] + [Member(id=99, learner=True)]


@pytest.mark.parametrize(
    ("count", "majority", "failures", "warnings"),
    [(1, 1, 0, 0), (2, 2, 0, 1), (3, 2, 1, 0), (4, 3, 1, 1), (5, 3, 2, 0)],
)
def test_majority_and_what_may_fail(
    count: int, majority: int, failures: int, warnings: int
) -> None:
    members = voters(count)
    found = quorum(members, {member.id for member in members})
    assert (found["voters"], found["majority"]) == (count, majority)
    assert found["failures_tolerated"] == failures
    assert len(found["warnings"]) == warnings, found["warnings"]


def test_a_majority_on_the_edge_and_one_that_is_lost_are_warnings() -> None:
    assert "one more voter lost" in quorum(voters(3), {1, 2})["warnings"][0]
    assert "1 of 3 voters are reached, 2 are needed" in quorum(voters(3), {1, 99})["warnings"]
