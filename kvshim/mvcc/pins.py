"""Revisions that are still to be read, by responses in flight or a snapshot that is being written,
which physical compaction spares for a while.

A pin only guides compaction. Whether a revision can still be read is answered by the snapshot that
reads it (`ReadView.is_intact`), so an expired pin can never lead to a wrong answer. Any thread.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Final

from kvshim.types import Revision

PIN_SECONDS_MAX: Final = 30.0


class Pins:
    """Which revisions are pinned, and until when."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._pins: dict[int, tuple[Revision, float]] = {}
        self.on_release: Callable[[], None] | None = None

    def pin(self, revision: Revision) -> int:
        """Spare what is alive at a revision; returns a number for `release`."""
        number = next(self._numbers)
        with self._lock:
            self._pins[number] = (revision, self._now() + PIN_SECONDS_MAX)
        return number

    def renew(self, number: int) -> None:
        """Spare it for as long again; only for work that no client can delay. A pin that has
        expired stays so.
        """
        with self._lock:
            if number in self._pins:
                self._pins[number] = (self._pins[number][0], self._now() + PIN_SECONDS_MAX)

    def release(self, number: int) -> None:
        """The response is finished, or given up. Releasing twice is harmless."""
        with self._lock:
            released = self._pins.pop(number, None) is not None
        if released and self.on_release is not None:
            self.on_release()

    def expire(self) -> None:
        """Drop the pins whose time has passed."""
        now = self._now()
        with self._lock:
            late = [number for number, (_, deadline) in self._pins.items() if deadline <= now]
        for number in late:
            self.release(number)

    def oldest(self) -> Revision | None:
        """The oldest revision that is pinned now."""
        now = self._now()
        with self._lock:
            return min(
                (revision for revision, deadline in self._pins.values() if deadline > now),
                default=None,
            )
