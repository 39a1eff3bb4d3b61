"""The leader's count of time for leases: when each runs out, and proposing its revoke then.

Which leases exist, and their keys, is replicated state in the store; only deadlines live here. A
lease never ends before a deadline that was promised: time is monotonic, and a member that starts
to lead gives every lease its full time anew. Event loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from kvshim.apply.outcome import Effect, LeaseGranted, LeaseRevoked
from kvshim.errors import LeaseNotFound, RequestError
from kvshim.types import LeaseID

REVOKES_IN_FLIGHT_MAX = 16
"""Expired leases whose revoke is under way at once; the rest wait their turn."""

HEAP_SLACK = 1_000
"""Entries of revoked leases that may stay queued before the queue is built anew."""

RETRY_SECONDS = 0.5
"""After a revoke that could not be proposed."""


@dataclass(slots=True)
class _Lease:
    ttl: int
    deadline: float
    revoked: asyncio.Event = field(default_factory=asyncio.Event)


class Lessor:
    """Deadlines of all leases; `revoke` proposes a lease's end and returns when it is applied.

    `on_expired` is told how many ran out together.
    """

    def __init__(
        self,
        leases: Iterable[tuple[LeaseID, int]],
        revoke: Callable[[LeaseID], Awaitable[None]],
        now: Callable[[], float],
        on_expired: Callable[[int], None],
    ) -> None:
        self._revoke = revoke
        self._on_expired = on_expired
        self._now = now
        self._leases = {lease: _Lease(ttl, now() + ttl) for lease, ttl in leases}
        self._heap = [(entry.deadline, lease) for lease, entry in self._leases.items()]
        heapq.heapify(self._heap)
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.granted_total = 0
        self.revoked_total = 0
        self.renewed_total = 0
        self.expired_total = 0

    def __len__(self) -> int:
        return len(self._leases)

    def observe(self, effects: Iterable[Effect]) -> None:
        """Follow what apply did to leases."""
        for effect in effects:
            if isinstance(effect, LeaseGranted):
                self.granted_total += 1
                self._leases[effect.lease] = _Lease(effect.ttl, self._now() + effect.ttl)
                self._schedule(effect.lease)
            elif isinstance(effect, LeaseRevoked):
                self.revoked_total += 1
                entry = self._leases.pop(effect.lease, None)
                if entry is not None:
                    entry.revoked.set()
        if len(self._heap) > 2 * len(self._leases) + HEAP_SLACK:
            self._rebuild_heap()

    async def keep_alive(self, lease: LeaseID) -> int:
        """Give a lease its full time again; returns its time to live in seconds.

        A lease that has run out is already being revoked: the answer waits for that. Raises
        `LeaseNotFound`.
        """
        entry = self._leases.get(lease)
        if entry is None:
            raise LeaseNotFound
        if entry.deadline <= self._now():
            await entry.revoked.wait()
            raise LeaseNotFound
        entry.deadline = self._now() + entry.ttl
        self.renewed_total += 1
        return entry.ttl

    def time_to_live(self, lease: LeaseID) -> tuple[int, int]:
        """(whole seconds left, granted seconds). Raises `LeaseNotFound`."""
        entry = self._leases.get(lease)
        if entry is None:
            raise LeaseNotFound
        return int(entry.deadline - self._now()), entry.ttl

    def leases(self) -> list[LeaseID]:
        """All leases, the one that ends first in front."""
        return sorted(self._leases, key=lambda lease: self._leases[lease].deadline)

    async def run(self) -> None:
        """Propose the revoke of each lease that runs out, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wait_seconds = self._start_due(group)
                try:
                    async with asyncio.timeout(wait_seconds):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def _schedule(self, lease: LeaseID) -> None:
        deadline = self._leases[lease].deadline
        heapq.heappush(self._heap, (deadline, lease))
        if self._heap[0][1] == lease:
            self._changed.set()

    def _rebuild_heap(self) -> None:
        """Drop the entries of leases that were revoked long before their deadline."""
        queued = {lease for _, lease in self._heap}
        self._heap = [
            (entry.deadline, lease) for lease, entry in self._leases.items() if lease in queued
        ]
        heapq.heapify(self._heap)

    def _start_due(self, group: asyncio.TaskGroup) -> float | None:
        """Start revokes of leases that ran out; returns seconds until the next deadline."""
        started = len(self._tasks)
        try:
            return self._start_revokes(group)
        finally:
            if len(self._tasks) > started:
                self._on_expired(len(self._tasks) - started)

    def _start_revokes(self, group: asyncio.TaskGroup) -> float | None:
        while self._heap:
            deadline, lease = self._heap[0]
            entry = self._leases.get(lease)
            if entry is None:
                heapq.heappop(self._heap)
            elif entry.deadline > deadline:
                # Renewed since it was queued: KeepAlive moves no heap entry, this does.
                heapq.heapreplace(self._heap, (entry.deadline, lease))
            elif deadline > self._now():
                return deadline - self._now()
            elif len(self._tasks) >= REVOKES_IN_FLIGHT_MAX:
                return None
            else:
                heapq.heappop(self._heap)
                task = group.create_task(self._expire(lease))
                self._tasks.add(task)
                task.add_done_callback(self._finish)
        return None

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()

    async def _expire(self, lease: LeaseID) -> None:
        try:
            await self._revoke(lease)
            self.expired_total += 1
        except LeaseNotFound:
            pass
        except RequestError:
            await asyncio.sleep(RETRY_SECONDS)
            if lease in self._leases:
                self._schedule(lease)
