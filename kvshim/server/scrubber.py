"""Reading all that is stored again, slowly, so that a failing disk is noticed before it is needed.

One pass a day in small steps: some 200,000 versions take a quarter of an hour, at well below one
percent of a core. Damage is told and raises the CORRUPT alarm, as etcd's corruption check does: the
cluster refuses writes until an operator has looked. Event loop; the reading is done on threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

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
    ) -> None:
        self._new_pass = new_pass
        self._step = step
        self._on_damage = on_damage
        self._sleep = sleep
        self.faults_total = 0
        self.passes_total = 0

    async def run(self) -> None:
        """One pass soon after the start, then one a day."""
        await self._sleep(FIRST_PASS_SECONDS)
        while True:
            await self._pass()
            await self._sleep(PASS_INTERVAL_SECONDS)

    async def _pass(self) -> None:
        scrub = self._new_pass()
        while not scrub.finished:
            faults = await self._step(scrub)
            if faults:
                self.faults_total += len(faults)
                await self._on_damage(faults)
            await self._sleep(STEP_INTERVAL_SECONDS)
        self.passes_total += 1
