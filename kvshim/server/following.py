"""A member without data: it asks the others who the members are, and finds one to serve clients.

What it runs is what every member runs, with an empty store and an empty log, or with those of a
time when it held the data; nobody sends it anything. The answers to its questions keep its list of
members true. Once it reads there that it is to be sent the log, it connects to the others, and the
snapshot that follows makes it a standby. Event loop.

A member that was away for long may have become a spare meanwhile, which neither its store nor its
log can tell it. So whoever misses a leader asks as well.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from kvshim.logs import Event, Logger
from kvshim.pb.kvshim.member_pb2 import (
    FollowAnswer,
    FollowRequest,
    Member,
    MemberAttributesRequest,
)
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.spares import METHOD, NEWS_SECONDS
from kvshim.version import FORMAT_VERSION
from raft.transport.options import CallRefused
from raft.types import LogError

LEADERLESS_SECONDS: Final = 3.0
"""Without a leader for so long, a member asks whether it is one of those that vote or learn."""
ASK_SECONDS: Final = NEWS_SECONDS + 3.0
LOOK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.5
HEARD_SECONDS: Final = ASK_SECONDS + 1.0
"""An answer is good for so long: the next one is under way."""
CARRY_SECONDS: Final = 5.0
"""Looking for a member that serves a client takes no longer; an election is over by then."""


class Call(Protocol):
    """Calls a method at a member."""

    def __call__(
        self, member: int, method: str, payload: bytes, seconds: float, /
    ) -> Awaitable[bytes]:
        """Raises `OSError`, `CallRefused`, `LogError`."""
        ...


class Follower:
    """Asks while this member holds no data, or misses a leader."""

    def __init__(
        self,
        book: MemberBook,
        leadership: Leadership,
        *,
        call: Call,
        attributes: Callable[[], MemberAttributesRequest],
        applied: Callable[[], int],
        has_data: Callable[[], bool],
        remember: Callable[[Sequence[Member]], Awaitable[None]],
        now: Callable[[], float],
        logger: Logger,
    ) -> None:
        """`applied` is the store's index; `has_data`: does the store name this member as one that
        holds it? `remember` keeps the members for a start without any.
        """
        self._book = book
        self._leadership = leadership
        self._call = call
        self._attributes = attributes
        self._applied = applied
        self._has_data = has_data
        self._remember = remember
        self._now = now
        self._logger = logger
        self._state = b""
        self._leader_id = 0
        self._heard_from = 0
        self._heard_at: float | None = None
        self._held = False
        self._was_forwarding = False
        self._found = asyncio.Event()
        self.on_spared: list[Callable[[], None]] = []
        """Called when this member begins to have its clients served by others."""

    @property
    def forwards(self) -> bool:
        """Are clients served by other members? Asked with every call."""
        own = self._book.own
        if own is None or not own.managed:
            return False
        self._held = self._held or self._has_data()
        return own.spare or not self._held

    @property
    def leader_id(self) -> int:
        """Who leads, as the last answer said it; 0 when there was none lately."""
        return self._leader_id if self.in_touch else 0

    @property
    def in_touch(self) -> bool:
        """Has a member answered lately?"""
        return self._heard_at is not None and self._now() - self._heard_at < HEARD_SECONDS

    async def found(self) -> None:
        """Wait until a member that is led has answered."""
        await self._found.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._notice()
            if not self._must_ask():
                # At the moments at which the loop wakes anyway, to ping other members.
                await asyncio.sleep(LOOK_SECONDS - self._now() % LOOK_SECONDS)
            elif not await self._ask_any():
                self._heard_at = None
                await asyncio.sleep(RETRY_SECONDS)

    def servers(self) -> list[Member]:
        """Who might serve a client, the best first; spares spread over the members with data."""
        own_id = self._book.own_id

        def order(member: Member) -> bytes:
            return hashlib.sha256(f"{own_id:x} {member.id:x}".encode()).digest()

        others = (m for m in self._book.holders if m.id != own_id)
        return sorted(others, key=order)

    def _notice(self) -> None:
        forwards = self.forwards
        if forwards and not self._was_forwarding:
            self._logger.info(Event.FOLLOWING, member_id=f"{self._book.own_id:x}")
            for callback in self.on_spared:
                callback()
        self._was_forwarding = forwards

    def _must_ask(self) -> bool:
        own = self._book.own
        if own is not None and own.spare:
            return True
        leadership = self._leadership
        away = self._now() - leadership.since
        return (
            not leadership.has_leader and away > LEADERLESS_SECONDS and len(self._book.members) > 1
        )

    async def _ask_any(self) -> bool:
        """Ask whoever leads, else whoever answered last, else all in turn."""
        ids = [member.id for member in self.servers()]
        for first in (self._heard_from, self._leader_id):
            if first in ids:
                ids.remove(first)
                ids.insert(0, first)
        for member in ids:
            if await self._ask(member):
                return True
        return False

    async def _ask(self, member: int) -> bool:
        request = FollowRequest(state=self._state, format_version=FORMAT_VERSION)
        if self._is_spare():
            request.attributes.CopyFrom(self._attributes())
        try:
            payload = await self._call(member, METHOD, request.SerializeToString(), ASK_SECONDS)
            answer = FollowAnswer.FromString(payload)
        except (OSError, CallRefused, LogError, DecodeError):
            self._state = b""
            return False
        self._heard_from, self._heard_at = member, self._now()
        self._state, self._leader_id = answer.state, answer.leader_id
        await self._take(answer)
        if answer.leader_id:
            self._found.set()
        return bool(answer.leader_id)

    async def _take(self, answer: FollowAnswer) -> None:
        """Go by this list, unless the store has come further meanwhile."""
        own = next((m for m in answer.members if m.id == self._book.own_id), None)
        if own is None or answer.applied_index <= self._applied():
            return
        if not own.spare and not self._is_spare():
            return  # the log will tell, once there is a leader
        if list(self._book.members) != list(answer.members):
            self._book.replace(answer.members)
            await self._remember(answer.members)

    def _is_spare(self) -> bool:
        own = self._book.own
        return own is not None and own.spare
