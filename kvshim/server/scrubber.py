"""Reading all that is stored again, slowly, so that a failing disk is noticed before it is needed.

One pass a day in small steps: some 200,000 versions take a quarter of an hour, at well below one
percent of a core. What then happens is for `on_damage` to say: a member of several gets its store
anew, a sole one raises the CORRUPT alarm. Event loop; the reading is done on threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kvshim.errors import StorageError
from kvshim.mvcc.scrub import Fault, Scrub

FIRST_PASS_SECONDS = 600.0
PASS_INTERVAL_SECONDS = 24 * 3600.0
STEP_INTERVAL_SECONDS = 0.5


class Scrubber:
    """Runs until cancelled. `step` runs a step on a thread; `on_damage` hears of faults."""

    def __init__(
        self,
        new_pass: Callable[[], Scrub],
        step: Callable[[Scrub], Awaitable[list[Fault]]],
        on_damage: Callable[[list[Fault]], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        interval_seconds: float = PASS_INTERVAL_SECONDS,
    ) -> None:
        self._new_pass = new_pass
        self._step = step
        self._on_damage = on_damage
        self._sleep = sleep
        self._interval_seconds = interval_seconds
        self.faults_total = 0
        self.passes_total = 0

    async def run(self) -> None:
        """One pass soon after the start, then one every interval."""
        await self._sleep(min(FIRST_PASS_SECONDS, self._interval_seconds))
        while True:
            await self._pass()
            await self._sleep(self._interval_seconds)

    async def _pass(self) -> None:
        scrub = self._new_pass()
        while not scrub.finished:
            broken = False
            try:
                faults = await self._step(scrub)
            except StorageError as error:  # SQLite itself finds damage: nothing behind it is read
                faults, broken = [Fault(scrub.place, str(error))], True
            if faults:
                self.faults_total += len(faults)
                await self._on_damage(faults)
            if broken:
                break
            await self._sleep(STEP_INTERVAL_SECONDS)
        self.passes_total += 1
