"""From time to ticks: the core is told of them when one of them does something, not at each.

A tick that only counts need wake nobody: `Ticking` says when the next one is due that does more,
and makes up for those before it when that time comes, or before a message, which may start the
count anew. Whoever holds the core calls.
"""

from __future__ import annotations

from typing import Final

from raft.core import Node

TICKS_MISSED_MAX: Final = 2
"""Ticks made up for after the process was held up: what waits in queues and sockets comes first,
and a member that heard nothing because it did not listen shall not call an election for it."""


class Ticking:
    """Of one core; times in seconds of one clock."""

    def __init__(self, core: Node, tick_seconds: float, now: float) -> None:
        self._core = core
        self._tick_seconds = tick_seconds
        self._counted_to = now
        self.due_at = now
        self.look()

    def pass_to(self, now: float) -> None:
        """It is `now`, and what had come before has been taken: do what is due."""
        if now - self._counted_to >= self._tick_seconds:
            self._count(now, self._until_look(), owed_max=0)
            self.look()

    def settle(self, now: float) -> None:
        """A message is about to be taken: count the time before it, but do nothing that is due.

        That stays due; the message may have made it needless.
        """
        self._count(now, self._core.ticks_until_due() - 1, owed_max=1)

    def look(self) -> None:
        """Say in `due_at` when `pass_to` has something to do; after whatever was done to the core.

        An election is looked at one tick before it: should the member have been held up just then,
        it listens for one tick more.
        """
        self.due_at = self._counted_to + self._until_look() * self._tick_seconds

    def _until_look(self) -> int:
        ticks = self._core.ticks_until_due()
        return ticks if self._core.leads else max(1, ticks - 1)

    def _count(self, now: float, ticks_max: int, *, owed_max: int) -> None:
        passed = int((now - self._counted_to) / self._tick_seconds)
        if now - self.due_at >= self._tick_seconds:
            ticks_max = min(ticks_max, TICKS_MISSED_MAX)
        counted = min(passed, ticks_max)
        if passed - counted <= owed_max:
            self._counted_to += counted * self._tick_seconds
        else:
            self._counted_to = now - owed_max * self._tick_seconds
        for _ in range(counted):
            self._core.tick()
