"""Automatic compaction, as `--auto-compaction-mode` and `--auto-compaction-retention` ask.

Periodic: compact to the revision of one period ago, then every period, or every hour if the
period is longer. Revision: every five minutes keep the last `retention` revisions. Both as etcd's
`v3compactor`. Event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from kvshim.errors import Compacted, RequestError
from kvshim.types import Revision

SAMPLES_PER_PERIOD = 10
INTERVAL_SECONDS_MAX = 3600.0
REVISION_INTERVAL_SECONDS = 300.0


class Compactor:
    """Runs until cancelled; `compact` proposes a compaction to a revision."""

    def __init__(
        self,
        revision: Callable[[], Revision],
        compact: Callable[[Revision], Awaitable[None]],
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._revision = revision
        self._compact = compact
        self._now = now
        self._sleep = sleep

    async def run_periodic(self, period_seconds: float) -> None:
        """Keep `period_seconds` of history."""
        interval = min(period_seconds, INTERVAL_SECONDS_MAX)
        step = interval / SAMPLES_PER_PERIOD
        samples: deque[Revision] = deque(maxlen=int(period_seconds / step) + 1)
        last, last_time, wait = Revision(0), self._now(), period_seconds
        while True:
            samples.append(self._revision())
            await self._sleep(step)
            if self._now() - last_time < wait or samples[0] == last:
                continue
            wait = interval
            if await self._try(samples[0]):
                last, last_time = samples[0], self._now()

    async def run_by_revision(self, retention: int) -> None:
        """Keep `retention` revisions."""
        last = Revision(0)
        while True:
            await self._sleep(REVISION_INTERVAL_SECONDS)
            target = Revision(self._revision() - retention)
            if target > 0 and target != last and await self._try(target):
                last = target

    async def _try(self, revision: Revision) -> bool:
        try:
            await self._compact(revision)
        except Compacted:
            return True
        except RequestError:
            return False
        return True
