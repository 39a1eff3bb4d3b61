"""Damage on the disk is found, told and raises the alarm, by a pass that goes slowly."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw

from kvshim.backend.backend import Backend
from kvshim.mvcc.scrub import Fault, Scrub
from kvshim.mvcc.store import Store
from kvshim.server.scrubber import (
    FIRST_PASS_SECONDS,
    PASS_INTERVAL_SECONDS,
    STEP_INTERVAL_SECONDS,
    Scrubber,
)
from kvshim.types import LeaseID


class World:
    """A real store, and a clock that only sleeping moves; it ends after two passes."""

    def __init__(self, path: Path) -> None:
        self.store = Store(Backend.open(path))
        self.sleeps: list[float] = []
        self.damage: list[Fault] = []
        self.scrubber = Scrubber(lambda: Scrub(self.store), self.step, self.on_damage, self.sleep)

    async def step(self, scrub: Scrub) -> list[Fault]:
        return await asyncio.to_thread(scrub.step)

    async def on_damage(self, faults: list[Fault]) -> None:
        self.damage += faults

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if self.scrubber.passes_total == 2:
            raise asyncio.CancelledError

    async def run(self) -> None:
        await asyncio.gather(self.scrubber.run(), return_exceptions=True)

    def fill(self, keys: int) -> None:
        with self.store.write() as batch:
            txn = batch.begin()
            for number in range(keys):
                txn.put(b"key%04d" % number, b"value", LeaseID(0))
            txn.finish()
            batch.set_applied(1, 1)


async def test_a_sound_store_is_read_in_slow_passes(tmp_path):
    world = World(tmp_path / "kv-1.db")
    world.fill(300)
    await world.run()
    assert (world.damage, world.scrubber.faults_total) == ([], 0)
    assert world.sleeps[0] == FIRST_PASS_SECONDS
    assert world.sleeps.count(PASS_INTERVAL_SECONDS) == 2
    assert world.sleeps.count(STEP_INTERVAL_SECONDS) >= 2 * (300 // 128)
    world.store.backend.close()


async def test_damage_is_found_and_told(tmp_path):
    # Given a store in which somebody has changed a byte behind our back
    path = tmp_path / "kv-1.db"
    world = World(path)
    world.fill(10)
    world.store.backend.close()
    outside = apsw.Connection(str(path))
    outside.execute(
        "UPDATE history SET value = x'00' WHERE key = CAST('key0003' AS BLOB)"
    ).fetchall()
    outside.close()
    # When it is read again
    world = World(path)
    await world.run()
    # Then both passes find it
    assert world.damage
    assert world.scrubber.faults_total == len(world.damage)
    world.store.backend.close()
