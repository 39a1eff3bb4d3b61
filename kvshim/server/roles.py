"""The roles of members that came by `kvshim join`: the leader changes them, a step at a time.

Which step comes next is decided by `role_steps`; members with a role given by hand keep it. Event
loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from kvshim.config.role_numbers import ROLE_NUMBERS_DEFAULT, RoleNumbers
from kvshim.errors import KvshimError, RequestError
from kvshim.logs import Event, Logger
from kvshim.pb.kvshim import member_pb2 as pb
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.proposer import Proposer
from kvshim.server.role_steps import MemberRole, Step, next_step, role_of

LOOK_SECONDS = 1.0
SOON_SECONDS = 0.1
"""While a member catches up, or when a step was just taken: the next may be due at once."""


class Roles:
    """Takes the steps while this member leads.

    `ready` names the learners that have caught up, `reached` all members connected now, `numbers`
    what the cluster wants, or None while nobody has said it. Whoever is not reached for
    `lost_seconds` is lost.
    """

    def __init__(
        self,
        leadership: Leadership,
        book: MemberBook,
        *,
        ready: Callable[[], AbstractSet[int]],
        reached: Callable[[], AbstractSet[int]],
        numbers: Callable[[], RoleNumbers | None],
        lost_seconds: float,
        now: Callable[[], float],
        logger: Logger,
    ) -> None:
        self._leadership = leadership
        self._book = book
        self._ready = ready
        self._reached = reached
        self._numbers = numbers
        self._lost_seconds = lost_seconds
        self._now = now
        self._logger = logger
        self._seen: dict[int, float] = {}

    async def run(self) -> None:
        """While this member leads look every second, or sooner, until cancelled."""
        pause = LOOK_SECONDS
        while True:
            await self._leadership.leading()
            await asyncio.sleep(pause - self._now() % pause)  # when others look, too
            pause = LOOK_SECONDS
            if not self._leadership.leads:
                self._seen.clear()
                continue
            try:
                if await self._look():
                    pause = SOON_SECONDS
            except RequestError:
                continue  # no longer the leader, or another change came first

    async def _look(self) -> bool:
        """Take a step, if one is due; True when another may be due in a moment."""
        members = self._book.members
        if not any(m.managed and m.id != self._book.own_id for m in members):
            return False  # before the store is asked, which would commit what writes share
        reached, ready = self._reached(), self._ready()
        lost = self._lost(reached)
        step = next_step(
            members,
            self._book.own_id,
            wanted=self._numbers() or ROLE_NUMBERS_DEFAULT,
            ready=ready & reached,
            lost=lost,
            present=reached,
        )
        if step is not None:
            await self._take(step, is_lost=step.member_id in lost)
            return True
        standbys = {m.id for m in members if m.managed and role_of(m) is MemberRole.STANDBY}
        return bool((standbys & reached) - ready)

    def _lost(self, reached: AbstractSet[int]) -> set[int]:
        """Whoever stays away; a leader that is new to it gives all of them time."""
        now = self._now()
        for member in self._book.members:
            if member.id in reached or member.id not in self._seen:
                self._seen[member.id] = now
        return {m for m, seen in self._seen.items() if now - seen > self._lost_seconds}

    async def _take(self, step: Step, *, is_lost: bool) -> None:
        before = next(role_of(m) for m in self._book.members if m.id == step.member_id)
        match before, step.role:
            case _, MemberRole.VOTER:
                await self._book.promote(step.member_id)
            case MemberRole.VOTER, _:
                await self._book.demote(step.member_id)
            case _, MemberRole.STANDBY:
                await self._book.enlist(step.member_id)
            case _, MemberRole.SPARE:
                await self._book.spare(step.member_id)
        self._logger.info(
            Event.ROLE_CHANGED,
            member_id=f"{step.member_id:x}",
            before=before.value,
            after=step.role.value,
            lost=is_lost,
        )


class RoleNumbersBook:
    """What the cluster wants, said and asked through the log."""

    def __init__(self, proposer: Proposer, numbers: Callable[[], RoleNumbers | None]) -> None:
        self._proposer = proposer
        self._numbers = numbers

    async def begin(self, wanted: RoleNumbers) -> RoleNumbers:
        """Say it for a cluster in which nobody has; returns what holds. Raises `RequestError`."""
        return await self._say(wanted, first=True)

    async def admin(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """`{"voters", "standbys"}`, either of them or none -> both, as they are then."""
        held = self._numbers() or ROLE_NUMBERS_DEFAULT
        voters, standbys = arguments.get("voters"), arguments.get("standbys")
        if voters is not None or standbys is not None:
            wanted = RoleNumbers(
                held.voters if voters is None else int(voters),
                held.standbys if standbys is None else int(standbys),
            )
            if problem := wanted.problem():
                raise KvshimError(problem)
            held = await self._say(wanted, first=False)
        return {"voters": held.voters, "standbys": held.standbys}

    async def _say(self, wanted: RoleNumbers, *, first: bool) -> RoleNumbers:
        numbers = pb.RoleNumbers(voters=wanted.voters, standbys=wanted.standbys)
        command = Command(role_numbers=pb.RoleNumbersRequest(numbers=numbers, first=first))
        answer = await self._proposer.propose(command, pb.RoleNumbersResponse)
        return RoleNumbers(answer.numbers.voters, answer.numbers.standbys)
