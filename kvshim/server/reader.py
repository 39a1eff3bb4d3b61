"""Reads: when the store may be read, and on which thread.

A linearizable read waits until the store has applied the log's read index; its snapshot is opened
after that. Reads change nothing, so one that a leader did not answer asks the next one, up to the
request timeout. Single keys and short ranges are read on the event loop, in microseconds; anything
that may be long goes to the reader threads. Event loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from kvshim.errors import LeaderChanged, NoLeader, RequestTimedOut, Stopped
from kvshim.logs import Event, Logger
from kvshim.mvcc.ranges import RangeResult
from kvshim.mvcc.slices import SlicePlan, open_range
from kvshim.mvcc.store import Store
from kvshim.mvcc.turn import TurnReads
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.server.leadership import Leadership
from kvshim.server.next_pages import NextPages
from kvshim.server.read_ahead import ReadAhead
from kvshim.server.read_index import ReadIndices
from raft import interface as raft

_T = TypeVar("_T")


class Reader:
    """Runs functions on snapshots of the store.

    Without `leadership` the log is taken to be one member's own, and a read fails at once when it
    has no leader. With `stale_reads` (`--read-only-without-quorum=stale-reads`) gets and lists are
    answered from the local store while there is none.
    """

    def __init__(
        self,
        store: Store,
        log: raft.ReplicatedLog,
        executor: Executor,
        timeout_seconds: float,
        leadership: Leadership | None = None,
        *,
        stale_reads: bool = False,
        logger: Logger | None = None,
    ) -> None:
        self._store = store
        self._turn_reads = TurnReads(store)
        self._log = log
        self._executor = executor
        self._next_pages = NextPages(store, self._begin)
        self._timeout_seconds = timeout_seconds
        self._leadership = leadership
        self._indices: ReadIndices | None = None
        if leadership is not None:
            self._indices = ReadIndices(log, leadership, timeout_seconds)
            leadership.on_change(self._follow)
        self._stale_reads = stale_reads and leadership is not None
        self._logger = logger
        self._stale_now = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sequence = 0
        self._stopped = False
        self.failed_total = 0

    async def linearizable(self) -> None:
        """Wait until the store holds every write that was acknowledged before this call.

        With `stale_reads` and no leader it may lack some. Raises `LeaderChanged`,
        `RequestTimedOut`.
        """
        if self._stale_reads and self._goes_stale():
            return
        await self._reach(self._goes_stale)

    def is_linearizable(self) -> bool:
        """Does the store hold those writes now, as far as can be told without asking anybody?"""
        index = self._log.read_index_now()
        return index is not None and not self._stopped and self._store.applied_index >= index

    async def confirmed(self) -> None:
        """As `linearizable`, but never stale: whoever leads was asked after this call."""
        await self._reach(_never)

    async def _reach(self, goes_stale: Callable[[], bool]) -> None:
        if self._stopped:
            raise Stopped
        if self._indices is None or self._decides_alone():
            try:
                index = await self._log.read_index()
                if self._store.applied_index >= index:
                    return  # nearly always; a timer would cost more than the read
                async with asyncio.timeout(self._timeout_seconds):
                    await self.applied(index)
                return
            except TimeoutError:
                self.failed_total += 1
                raise RequestTimedOut from None
            except raft.NoLeader:
                if self._indices is None:
                    self.failed_total += 1
                    raise NoLeader from None
        assert self._indices is not None
        assert self._leadership is not None
        await self._ask(self._indices, self._leadership, goes_stale)

    def _decides_alone(self) -> bool:
        """Then the log answers at once, and sharing its answers would only cost."""
        status = self._log.status()
        return status.leads and len(status.membership.voters) == 1

    async def _ask(
        self, indices: ReadIndices, leadership: Leadership, goes_stale: Callable[[], bool]
    ) -> None:
        asked_of = (leadership.leader_id, leadership.term)
        began = asyncio.get_running_loop().time()
        try:
            try:
                index = await indices.newest()
            except raft.NoLeader:
                async with asyncio.timeout_at(began + self._timeout_seconds):
                    index = await self._ask_again(indices, goes_stale)
            if self._store.applied_index < index:
                async with asyncio.timeout_at(began + self._timeout_seconds):
                    await self.applied(index)
        except TimeoutError:
            self.failed_total += 1
            if asked_of[0] and asked_of != (leadership.leader_id, leadership.term):
                raise LeaderChanged from None
            raise RequestTimedOut from None

    async def _ask_again(self, indices: ReadIndices, goes_stale: Callable[[], bool]) -> raft.Index:
        """The questions were given up: at the end, or to serve what is here."""
        while True:
            if self._stopped:
                raise Stopped
            if goes_stale():
                return raft.Index(0)
            with suppress(raft.NoLeader):
                return await indices.newest()

    def _goes_stale(self) -> bool:
        if not self._stale_reads or self._leadership is None or self._leadership.has_leader:
            return False
        if not self._stale_now:
            self._stale_now = True
            if self._logger is not None:
                self._logger.warn(Event.STALE_READS)
        return True

    def _follow(self) -> None:
        """With `stale_reads`, whoever waited for a leader that is gone waits no longer."""
        assert self._leadership is not None
        assert self._indices is not None
        if not self._stale_reads:
            return
        if not self._leadership.has_leader:
            self._indices.give_up()
        elif self._stale_now:
            self._stale_now = False
            if self._logger is not None:
                self._logger.info(Event.STALE_READS_ENDED)

    def has_applied(self, index: int) -> bool:
        """True when the store holds that entry."""
        return self._store.applied_index >= index

    async def applied(self, index: int) -> None:
        """Wait until the store has applied and committed `index`."""
        if self._store.applied_index >= index:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sequence += 1
        heapq.heappush(self._waiting, (index, self._sequence, future))
        await future

    def advance(self, applied_index: int) -> None:
        """Wake the reads that waited for an index up to `applied_index`."""
        while self._waiting and self._waiting[0][0] <= applied_index:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    def stop(self) -> None:
        """Fail the reads that wait and refuse new linearizable ones."""
        self._stopped = True
        if self._indices is not None:
            self._indices.give_up()
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(Stopped())
        self._waiting.clear()

    def read_here(self, function: Callable[[ReadView], _T]) -> _T:
        """Run a read of microseconds on the loop."""
        return self._turn_reads.read(function)

    @property
    def turn_is_long(self) -> bool:
        """Should only the shortest reads still be run on the loop, in this turn of it?"""
        return self._turn_reads.is_long

    async def turn_for_reading(self) -> None:
        """Wait for a turn of the loop that has not been reading for long: a thread costs more."""
        while self._turn_reads.is_long:  # noqa: ASYNC110 - that is what is waited for
            await asyncio.sleep(0)

    async def read(self, function: Callable[[ReadView], _T]) -> _T:
        """Run a read that may be long on a reader thread."""
        return await self._begin(partial(self._read, function))

    async def open_range(self, request: rpc_pb2.RangeRequest) -> RangeResult | SlicePlan:
        """Read a range on a reader thread; a long one is planned, to be read in slices.

        Of a list that comes in pages, the next page may have been read already.
        """
        opened: RangeResult | SlicePlan | None = await self._next_pages.take(request)
        if opened is None:
            opened = await self.on_thread(partial(open_range, self._store, request))
        if isinstance(opened, RangeResult):
            self._next_pages.read_behind(request, opened)
        return opened

    async def slices(self, plan: SlicePlan, header: bytes) -> AsyncIterator[bytes]:
        """The whole response of a plan, slice by slice, each read while those before it leave.

        Raises `Compacted`.
        """
        ahead = ReadAhead(self._executor, plan.next_slice)
        try:
            yield plan.opening(header)
            while piece := await ahead.next():
                yield piece
            yield plan.closing()
        finally:
            plan.close()

    def read_ahead(self, function: Callable[[ReadView], _T]) -> ReadAhead[_T]:
        """Run a read on reader threads again and again, each time on a snapshot of its own."""
        return ReadAhead(self._executor, partial(self._read, function))

    async def on_thread(self, function: Callable[[], _T]) -> _T:
        """Run a function that reads by itself on a reader thread."""
        return await self._begin(function)

    def _begin(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        future = asyncio.get_running_loop().run_in_executor(self._executor, function)
        future.add_done_callback(_notice)
        return future

    def _read(self, function: Callable[[ReadView], _T]) -> _T:
        with self._store.read() as view:
            return function(view)


def _notice(done: asyncio.Future[_T]) -> None:
    """What a read fails with that nobody waits for any more is no news."""
    if not done.cancelled():
        done.exception()


def _never() -> bool:
    return False
