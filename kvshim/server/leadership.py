"""Who leads, as this member sees it: for those who wait for a leader or act on a change of it.

The log's thread posts every change to the event loop, which owns everything here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WATCH_ELECTIONS = 3
"""Election timeouts without a leader after which streams that require one end, as in etcd."""


class Leadership:
    """The present leader and term. Event loop.

    `election_seconds` is the members' election timeout; `now` a monotonic clock in seconds.
    `stream_election_seconds` is the one that streams go by, where it is longer, as etcd's is.
    """

    def __init__(
        self,
        member_id: int,
        election_seconds: float,
        now: Callable[[], float] | None = None,
        *,
        stream_election_seconds: float = 0.0,
    ) -> None:
        self.election_seconds = election_seconds
        self._absence_seconds = WATCH_ELECTIONS * max(election_seconds, stream_election_seconds)
        self._member_id = member_id
        self._now = now or asyncio.get_running_loop().time
        self.leader_id = 0
        self.term = 0
        self.since = self._now()
        """When the leader came, or went."""
        self.elected_at: float | None = None
        """When the newest leader came; it may have gone since."""
        self.changes_seen = 0
        """Leaders seen, this member included."""
        self._on_change: list[Callable[[], None]] = []
        self._on_leaderless: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def leads(self) -> bool:
        """Does this member lead, as far as it knows?"""
        return self.leader_id == self._member_id != 0

    @property
    def has_leader(self) -> bool:
        """Is a leader known?"""
        return self.leader_id != 0

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every change of leader or term, in the order of registration."""
        self._on_change.append(callback)

    def on_leaderless(self, callback: Callable[[], None]) -> None:
        """Call `callback` once for every time without a leader that lasts three elections."""
        self._on_leaderless.append(callback)

    def start(self) -> None:
        """Begin to count the time without a leader."""
        if not self.has_leader:
            self._limit_absence()

    def observe(self, leader_id: int, term: int) -> None:
        """The log has a new leader (0: none) or a new term."""
        if (leader_id, term) == (self.leader_id, self.term):
            return
        before = self.leader_id
        self.leader_id, self.term = leader_id, term
        if leader_id:
            self._found()
        elif before:
            self.since = self._now()
            self._limit_absence()
        for callback in self._on_change:
            callback()

    async def known(self) -> None:
        """Wait until there is a leader."""
        await self._found_until(lambda: self.has_leader)

    async def leading(self) -> None:
        """Wait until this member leads."""
        await self._found_until(lambda: self.leads)

    async def _found_until(self, right: Callable[[], bool]) -> None:
        while not right():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)

    def failed_over_during(self, since: float) -> bool:
        """Did what began at `since` fall into the end of the last leader?

        Two election timeouts before the newest leader came, the old one was surely still there
        (etcd `server/etcdserver/util.go`, parseProposeCtxErr).
        """
        elected = self.elected_at
        return elected is not None and elected - 2 * self.election_seconds < since < elected

    def stop(self) -> None:
        """Count no further."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _found(self) -> None:
        self.stop()
        self.since = self.elected_at = self._now()
        self.changes_seen += 1
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _limit_absence(self) -> None:
        self.stop()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._absence_seconds, self._tell_leaderless)

    def _tell_leaderless(self) -> None:
        self._timer = None
        for callback in self._on_leaderless:
            callback()
