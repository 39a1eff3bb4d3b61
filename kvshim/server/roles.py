"""Who votes among the members that came by `kvshim join`: the leader decides, a step at a time.

The number of voters is kept odd: a cluster of two has one voter and one standby, since two voters
would survive nothing more than one. Members with a role given by hand keep it. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from kvshim.errors import RequestError
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook

VOTERS_WANTED = 3
LOOK_SECONDS = 1.0
LOST_SECONDS = 30.0
"""A voter that was not reached for so long is replaced, if a standby can."""


@dataclass(frozen=True, slots=True)
class Step:
    """Give this member a vote, or take it."""

    member_id: int
    promote: bool


def next_step(
    members: Sequence[Member],
    leader_id: int,
    *,
    ready: AbstractSet[int],
    lost: AbstractSet[int],
    wanted: int = VOTERS_WANTED,
) -> Step | None:
    """What brings the voters nearer to the wanted odd number; None when nothing can or need.

    `ready` are learners that have caught up and are reached; `lost` members that stay away.
    """
    voters = [member for member in members if not member.learner]
    standbys = [m.id for m in members if m.learner and m.managed and m.id in ready]
    movable = [m.id for m in voters if m.managed and m.id != leader_id]
    gone = [member_id for member_id in movable if member_id in lost]
    even = len(voters) % 2 == 0
    if even and standbys and len(voters) < wanted:
        return Step(standbys[0], promote=True)
    if even and movable:
        return Step((gone or movable)[0], promote=False)
    if gone and standbys:
        return Step(gone[0], promote=False)
    if not even and len(voters) + 2 <= wanted and len(standbys) >= 2:
        return Step(standbys[0], promote=True)
    return None


class Roles:
    """Takes the steps while this member leads.

    `ready` names the learners that have caught up, `reached` all members connected now.
    """

    def __init__(
        self,
        leadership: Leadership,
        book: MemberBook,
        *,
        ready: Callable[[], AbstractSet[int]],
        reached: Callable[[], AbstractSet[int]],
        now: Callable[[], float],
    ) -> None:
        self._leadership = leadership
        self._book = book
        self._ready = ready
        self._reached = reached
        self._now = now
        self._seen: dict[int, float] = {}

    async def run(self) -> None:
        """Look every second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._leadership.leads:
                self._seen.clear()
                continue
            try:
                await self._look()
            except RequestError:
                continue  # no longer the leader, or another change came first

    async def _look(self) -> None:
        now, reached = self._now(), self._reached()
        for member in self._book.members:
            if member.id in reached or member.id not in self._seen:
                self._seen[member.id] = now
        lost = {member for member, seen in self._seen.items() if now - seen > LOST_SECONDS}
        step = next_step(
            self._book.members, self._book.own_id, ready=self._ready() & reached, lost=lost
        )
        if step is None:
            return
        if step.promote:
            await self._book.promote(step.member_id)
        else:
            await self._book.demote(step.member_id)
