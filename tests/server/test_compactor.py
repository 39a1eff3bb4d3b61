"""Automatic compaction keeps what was asked for, in etcd's rhythm."""

from __future__ import annotations

import asyncio

from kvshim.errors import NoLeader
from kvshim.server.compactor import REVISION_INTERVAL_SECONDS, Compactor
from kvshim.types import Revision


class World:
    """A store that gains one revision a second of a clock that only sleeping moves."""

    def __init__(self, until: float) -> None:
        self.time = 0.0
        self.until = until
        self.failures = 0
        self.compactions: list[tuple[float, int]] = []

    def revision(self) -> Revision:
        return Revision(1 + int(self.time))

    async def compact(self, revision: Revision) -> None:
        if self.failures:
            self.failures -= 1
            raise NoLeader
        self.compactions.append((self.time, revision))

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.time > self.until:
            raise asyncio.CancelledError

    def compactor(self) -> Compactor:
        return Compactor(self.revision, self.compact, lambda: self.time, self.sleep)


async def finish(world: World, run) -> list[tuple[float, int]]:
    await asyncio.gather(run, return_exceptions=True)
    return world.compactions


async def test_periodic_keeps_at_least_one_period():
    world = World(until=305)
    done = await finish(world, world.compactor().run_periodic(100.0))
    # The oldest sample is one period and one step old, as etcd's is: never less than was asked.
    assert done == [(100.0, 1), (200.0, 91), (300.0, 191)]


async def test_a_long_period_compacts_every_hour_after_the_first_period():
    world = World(until=3 * 3600 + 10)
    done = await finish(world, world.compactor().run_periodic(2 * 3600.0))
    assert [time for time, _ in done] == [7200.0, 10800.0]
    assert [int(time) - revision for time, revision in done] == [7199, 7559]


async def test_a_failed_compaction_is_tried_at_the_next_sample():
    world = World(until=125)
    world.failures = 1
    done = await finish(world, world.compactor().run_periodic(100.0))
    assert done == [(110.0, 1)]


async def test_by_revision_keeps_the_last_ones():
    world = World(until=2 * REVISION_INTERVAL_SECONDS + 1)
    done = await finish(world, world.compactor().run_by_revision(400))
    assert done == [(600.0, 201)]
