"""The leader's count of time for leases: when each runs out, and proposing its revoke then.

Which leases exist, and their keys, is replicated state in the store; only deadlines live here, and
only while this member is primary: a leader whose term is confirmed. On others no lease runs out. A
lease never ends before a deadline that was promised: time is monotonic, and a member that becomes
primary gives every lease its full time anew, or what a checkpoint in the store says is left, and
an election timeout of grace. Event loop.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from kvshim.apply.outcome import Effect, LeaseCheckpointed, LeaseGranted, LeaseRevoked
from kvshim.errors import LeaseNotFound, RequestError
from kvshim.mvcc.records import LeaseRecord
from kvshim.types import LeaseID

REVOKES_IN_FLIGHT_MAX = 16
"""Expired leases whose revoke is under way at once; the rest wait their turn."""

HEAP_SLACK = 1_000
"""Entries of revoked leases that may stay queued before the queue is built anew."""

RETRY_SECONDS = 0.5
"""After a revoke that could not be proposed."""

EXPIRIES_PER_SECOND_MAX = 750
"""After a promotion, which makes many leases end together; etcd spreads them as far."""

CHECKPOINT_SECONDS = 300
"""A lease that has lost this much since its last renewal or checkpoint gets one; etcd's interval.
Shorter leases never do."""

CHECKPOINT_LEASES_MAX = 1_000
"""Leases in one checkpoint command."""

CHECKPOINT_PAUSE_SECONDS = 1.0
"""Between two of these commands."""

FOREVER = math.inf


class NotPrimary(Exception):
    """This member does not count the time of leases, or ceased to meanwhile: ask the leader."""


@dataclass(slots=True)
class _Lease:
    """`remaining_ttl` is the checkpoint in the store; `checkpointed` also holds while one may come.

    `ended` is set when the lease is revoked or this member ceases to be primary.
    """

    ttl: int
    deadline: float = FOREVER
    remaining_ttl: int = 0
    checkpointed: bool = False
    ended: asyncio.Event | None = None

    @property
    def full_seconds(self) -> int:
        """What a new primary gives it."""
        return self.remaining_ttl or self.ttl

    async def wait_ended(self) -> None:
        if self.ended is None:
            self.ended = asyncio.Event()
        await self.ended.wait()

    def end(self) -> None:
        if self.ended is not None:
            self.ended.set()
            self.ended = None


class Lessor:
    """Deadlines of all leases.

    `revoke` proposes a lease's end, `checkpoint` how many seconds leases have left (0: the full
    time); both return when it is applied, and neither may take effect in another leader's term.
    Without `checkpoint` none is made. `on_expired` is told how many ran out together. It begins as
    primary, which is right for one that is alone.
    """

    def __init__(
        self,
        leases: Iterable[tuple[LeaseID, int]],
        revoke: Callable[[LeaseID], Awaitable[None]],
        now: Callable[[], float],
        on_expired: Callable[[int], None],
        checkpoint: Callable[[Sequence[tuple[LeaseID, int]]], Awaitable[None]] | None = None,
    ) -> None:
        self._revoke = revoke
        self._checkpoint = checkpoint
        self._on_expired = on_expired
        self._now = now
        self._primary = True
        self._heap: list[tuple[float, LeaseID]] = []
        self._checkpoint_heap: list[tuple[float, LeaseID]] = []
        self._checkpointing: frozenset[LeaseID] = frozenset()
        self._checkpoint_over = asyncio.Event()
        self._checkpoint_task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leases: dict[LeaseID, _Lease] = {}
        self.granted_total = 0
        self.revoked_total = 0
        self.renewed_total = 0
        self.expired_total = 0
        self.restore(LeaseRecord(lease, ttl) for lease, ttl in leases)

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def primary(self) -> bool:
        """Does this member count the time?"""
        return self._primary

    def restore(self, leases: Iterable[LeaseRecord]) -> None:
        """These are all leases now: at the start, and after a snapshot took the store's place."""
        for entry in self._leases.values():
            entry.end()
        self._leases = {
            record.id: _Lease(
                record.ttl,
                remaining_ttl=record.remaining_ttl,
                checkpointed=record.remaining_ttl > 0,
            )
            for record in leases
        }
        if self._primary:
            self._begin_count(0.0)

    def promote(self, extend_seconds: float) -> None:
        """Count from now on, `extend_seconds` more than each lease has; the term is confirmed."""
        self._primary = True
        self._begin_count(extend_seconds)

    def demote(self) -> None:
        """Count no longer: another may. Nothing runs out here, and who waits is sent on."""
        self._primary = False
        self._heap.clear()
        self._checkpoint_heap.clear()
        for task in self._tasks:
            task.cancel()
        for entry in self._leases.values():
            entry.deadline = FOREVER
            entry.end()

    def observe(self, effects: Iterable[Effect]) -> None:
        """Follow what apply did to leases."""
        for effect in effects:
            match effect:
                case LeaseGranted():
                    self.granted_total += 1
                    entry = self._leases[effect.lease] = _Lease(effect.ttl)
                    if self._primary:
                        entry.deadline = self._now() + effect.ttl
                        self._schedule(effect.lease)
                        self._plan_checkpoint(effect.lease, entry)
                case LeaseRevoked():
                    self.revoked_total += 1
                    gone = self._leases.pop(effect.lease, None)
                    if gone is not None:
                        gone.end()
                case LeaseCheckpointed() if effect.lease in self._leases:
                    entry = self._leases[effect.lease]
                    entry.remaining_ttl = effect.remaining_ttl
                    coming = effect.lease in self._checkpointing
                    entry.checkpointed = coming or effect.remaining_ttl > 0
                case _:
                    pass
        limit = 2 * len(self._leases) + HEAP_SLACK
        if len(self._heap) > limit or len(self._checkpoint_heap) > limit:
            self._rebuild_heaps()

    async def keep_alive(self, lease: LeaseID) -> int:
        """Give a lease its full time again; returns its time to live in seconds.

        A lease that has run out is already being revoked: the answer waits for that. A checkpoint
        is cleared in the log before the answer, lest the next leader go by it. Raises
        `LeaseNotFound`, `NotPrimary`, and what `checkpoint` raises.
        """
        while True:
            entry = self._find(lease)
            if entry.deadline <= self._now():
                await entry.wait_ended()
            elif lease in self._checkpointing:
                await self._checkpoint_over.wait()
            elif entry.checkpointed and self._checkpoint is not None:
                await self._checkpoint([(lease, 0)])  # `observe` saw it when this returns
            else:
                entry.deadline = self._now() + entry.ttl
                self.renewed_total += 1
                return entry.ttl

    def time_to_live(self, lease: LeaseID) -> tuple[int, int]:
        """(whole seconds left, granted seconds). Raises `LeaseNotFound`, `NotPrimary`."""
        entry = self._find(lease)
        return int(entry.deadline - self._now()), entry.ttl

    def leases(self) -> list[LeaseID]:
        """All leases, the one that ends first in front."""
        return sorted(self._leases, key=lambda lease: (self._leases[lease].deadline, lease))

    async def run(self) -> None:
        """Propose the revoke of each lease that runs out, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wait_seconds = _sooner(self._start_due(group), self._start_checkpoint(group))
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

    def _find(self, lease: LeaseID) -> _Lease:
        if not self._primary:
            raise NotPrimary
        entry = self._leases.get(lease)
        if entry is None:
            raise LeaseNotFound
        return entry

    def _begin_count(self, extend_seconds: float) -> None:
        """Set all deadlines, no more than a bounded number of them within any second."""
        now = self._now()
        order = sorted(self._leases, key=lambda lease: self._leases[lease].full_seconds)
        deadlines: list[float] = []
        self._checkpoint_heap.clear()
        for number, lease in enumerate(order):
            entry = self._leases[lease]
            deadline = now + entry.full_seconds + extend_seconds
            if number >= EXPIRIES_PER_SECOND_MAX:
                deadline = max(deadline, deadlines[number - EXPIRIES_PER_SECOND_MAX] + 1.0)
            deadlines.append(deadline)
            entry.deadline = deadline
            self._plan_checkpoint(lease, entry)
        self._heap = list(zip(deadlines, order, strict=True))
        heapq.heapify(self._heap)
        self._changed.set()

    def _rebuild_heaps(self) -> None:
        """Drop the entries of leases that were revoked long before their deadline."""
        queued = {lease for _, lease in self._heap}
        self._heap = [
            (entry.deadline, lease) for lease, entry in self._leases.items() if lease in queued
        ]
        heapq.heapify(self._heap)
        planned = {lease: due for due, lease in self._checkpoint_heap if lease in self._leases}
        self._checkpoint_heap = [(due, lease) for lease, due in planned.items()]
        heapq.heapify(self._checkpoint_heap)

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
            if lease in self._leases and self._primary:
                self._schedule(lease)

    # -- checkpoints

    def _plan_checkpoint(self, lease: LeaseID, entry: _Lease) -> None:
        if self._checkpoint is not None and entry.ttl > CHECKPOINT_SECONDS:
            heapq.heappush(self._checkpoint_heap, (self._now() + CHECKPOINT_SECONDS, lease))

    def _start_checkpoint(self, group: asyncio.TaskGroup) -> float | None:
        """Start a checkpoint if one is due; returns seconds until the next look."""
        if self._checkpoint_task is not None:
            return None  # its end wakes the loop
        due = self._take_due_checkpoints()
        if due:
            self._checkpointing = frozenset(lease for lease, _ in due)
            self._checkpoint_over.clear()
            self._checkpoint_task = group.create_task(self._make_checkpoint(due))
            return None
        if self._checkpoint_heap:
            return max(self._checkpoint_heap[0][0] - self._now(), 0.0)
        return None

    def _take_due_checkpoints(self) -> list[tuple[LeaseID, int]]:
        due: list[tuple[LeaseID, int]] = []
        now, heap = self._now(), self._checkpoint_heap
        while heap and heap[0][0] <= now and len(due) < CHECKPOINT_LEASES_MAX:
            lease = heap[0][1]
            entry = self._leases.get(lease)
            if entry is None:
                heapq.heappop(heap)
                continue
            left = entry.deadline - now
            lost = entry.full_seconds - left
            again = CHECKPOINT_SECONDS
            if lost >= CHECKPOINT_SECONDS and left > 0:
                entry.checkpointed = True  # from now on it may come
                due.append((lease, math.ceil(left)))
            elif 0 < lost < CHECKPOINT_SECONDS:
                again = math.ceil(CHECKPOINT_SECONDS - lost)
            heapq.heapreplace(heap, (now + again, lease))
        return due

    async def _make_checkpoint(self, due: Sequence[tuple[LeaseID, int]]) -> None:
        assert self._checkpoint is not None
        try:
            await self._checkpoint(due)
        except RequestError:
            pass  # its outcome is unknown; the next one is due in time
        finally:
            self._checkpointing = frozenset()
            self._checkpoint_over.set()
        await asyncio.sleep(CHECKPOINT_PAUSE_SECONDS)
        self._checkpoint_task = None
        self._changed.set()


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
