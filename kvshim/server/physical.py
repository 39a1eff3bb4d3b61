"""Waiting for a compaction to have removed its rows, for requests with `physical` set."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from kvshim.types import Revision


class PhysicalCompaction:
    """Follows how far rows were removed. Event loop."""

    def __init__(self, finished: Revision, asked: Callable[[], Revision]) -> None:
        """`asked` gives the newest revision that a compaction was asked for."""
        self._finished = finished
        self._asked = asked
        self._sequence = 0
        self._waiting: list[tuple[Revision, int, asyncio.Future[None]]] = []

    def observe(self, finished: Revision) -> None:
        """Rows up to `finished` are gone."""
        self._finished = max(self._finished, finished)
        while self._waiting and self._waiting[0][0] <= self._finished:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """Return once the rows of every compaction so far are gone."""
        revision = self._asked()
        if revision <= self._finished:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sequence += 1
        heapq.heappush(self._waiting, (revision, self._sequence, future))
        await future
