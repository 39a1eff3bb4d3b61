"""Reads: when the store may be read, and on which thread.

A linearizable read waits until the store has applied the log's read index; its snapshot is opened
after that. Single keys are read on the event loop (tens of microseconds); anything that may be
long goes to the reader threads. Event loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from kvshim.errors import NoLeader, RequestTimedOut, Stopped
from kvshim.mvcc.ranges import RangeResult
from kvshim.mvcc.slices import SlicePlan, open_range
from kvshim.mvcc.store import Store
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from raft import interface as raft

_T = TypeVar("_T")


class Reader:
    """Runs functions on snapshots of the store."""

    def __init__(
        self,
        store: Store,
        log: raft.ReplicatedLog,
        executor: Executor,
        timeout_seconds: float,
    ) -> None:
        self._store = store
        self._log = log
        self._executor = executor
        self._timeout_seconds = timeout_seconds
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sequence = 0
        self._stopped = False
        self.failed_total = 0

    async def linearizable(self) -> None:
        """Wait until the store holds every write that was acknowledged before this call."""
        if self._stopped:
            raise Stopped
        try:
            index = await self._log.read_index()
            if self._store.applied_index >= index:
                return  # nearly always; a timer would cost more than the read
            async with asyncio.timeout(self._timeout_seconds):
                await self.applied(index)
        except TimeoutError:
            self.failed_total += 1
            raise RequestTimedOut from None
        except raft.NoLeader:
            self.failed_total += 1
            raise NoLeader from None

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
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(Stopped())
        self._waiting.clear()

    def read_here(self, function: Callable[[ReadView], _T]) -> _T:
        """Run a read of microseconds on the loop."""
        with self._store.read_short() as view:
            return function(view)

    async def read(self, function: Callable[[ReadView], _T]) -> _T:
        """Run a read that may be long on a reader thread."""
        return await self.on_thread(partial(self._read, function))

    async def open_range(self, request: rpc_pb2.RangeRequest) -> RangeResult | SlicePlan:
        """Read a range on a reader thread; a long one is planned, to be read in slices."""
        return await self.on_thread(partial(open_range, self._store, request))

    async def slices(self, plan: SlicePlan, header: bytes) -> AsyncIterator[bytes]:
        """The whole response of a plan, slice by slice. Raises `Compacted`."""
        try:
            yield plan.opening(header)
            while piece := await self.on_thread(plan.next_slice):
                yield piece
            yield plan.closing()
        finally:
            plan.close()

    async def on_thread(self, function: Callable[[], _T]) -> _T:
        """Run a function that reads by itself on a reader thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def _read(self, function: Callable[[ReadView], _T]) -> _T:
        with self._store.read() as view:
            return function(view)
