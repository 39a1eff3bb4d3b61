"""Whether a disk is slow as a rule, as an SD card is: single waits are `slow fdatasync`'s matter.

The thread that writes the log owns a `DiskPace`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

WRITES: Final = 50
"""The median is of so many writes, so that a spike or two of a good disk say nothing."""

SLOW_SECONDS: Final = 0.010
"""etcd's advice for disks is that 99 of 100 fsyncs take less than this; here, half of them."""

PAUSE_SECONDS: Final = 60.0
"""Between two times of telling."""


class DiskPace:
    """Told of each write's seconds; tells when most of them are slow, now and then."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seconds: list[float] = []
        self._not_before = now()
        self.newest_seconds = 0.0

    def slow_median(self, seconds: float) -> float | None:
        """The median of the last writes if that is worth telling now."""
        self.newest_seconds = seconds
        self._seconds.append(seconds)
        if len(self._seconds) < WRITES:
            return None
        median = sorted(self._seconds)[WRITES // 2]
        self._seconds.clear()
        if median < SLOW_SECONDS or self._now() < self._not_before:
            return None
        self._not_before = self._now() + PAUSE_SECONDS
        return median
