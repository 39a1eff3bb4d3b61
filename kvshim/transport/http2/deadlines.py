"""Deadlines of calls: one timer for all of a method, since nearly all calls end long before.

A timer of the loop for each call costs more than all its other bookkeeping. Calls whose time is
up within the same tick share a bucket; they expire up to a tick late and never early. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

TICK_SECONDS = 0.02

Waiting = TypeVar("Waiting", bound=Hashable)


class Deadlines(Generic[Waiting]):
    """Tells when a deadline has passed that was not taken back before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Waiting], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._buckets: dict[int, set[Waiting]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_tick = 0

    def add(self, waiting: Waiting, deadline: float) -> None:
        """`deadline` is in the loop's time."""
        tick = _tick_of(deadline)
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
            if self._timer is None or tick < self._timer_tick:
                self._set_timer(tick)
        bucket.add(waiting)

    def discard(self, waiting: Waiting, deadline: float) -> None:
        """Take back what was added with this deadline, if it has not expired."""
        tick = _tick_of(deadline)
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.discard(waiting)
            if not bucket:
                # The timer stays: it is set anew once it has fired.
                del self._buckets[tick]

    def _set_timer(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_tick = tick
        self._timer = self._loop.call_at(tick * TICK_SECONDS, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = int(self._loop.time() / TICK_SECONDS)
        due = [tick for tick in self._buckets if tick <= max(now, self._timer_tick)]
        for tick in sorted(due):
            for waiting in self._buckets.pop(tick, ()):
                self._expire(waiting)
        if self._buckets:
            self._set_timer(min(self._buckets))


def _tick_of(deadline: float) -> int:
    return int(deadline / TICK_SECONDS) + 1
