"""The quota refuses early, raises its alarm once and takes it back by itself."""

from __future__ import annotations

import asyncio

import pytest

from kvshim.errors import NoSpace
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.server import quota as quota_module
from kvshim.server.quota import Quota

PUT = Command(put=rpc_pb2.PutRequest(key=b"k", value=b"v" * 100))
DELETE = Command(delete_range=rpc_pb2.DeleteRangeRequest(key=b"k"))


class World:
    def __init__(self) -> None:
        self.in_use = 0
        self.changes: list[bool] = []
        self.quota = Quota(10_000, lambda: self.in_use, self.change, 100)

    async def change(self, raised: bool) -> None:
        self.changes.append(raised)
        self.quota.observe(raised)


async def test_a_write_that_fits_passes_and_a_delete_always_does():
    world = World()
    await world.quota.check(PUT)
    world.in_use = 20_000
    await world.quota.check(DELETE)
    assert world.changes == []


async def test_without_a_quota_nothing_is_refused():
    world = World()
    world.quota.limit_bytes = -1
    world.in_use = 1 << 50
    await world.quota.check(PUT)
    assert world.changes == []


async def test_a_write_over_the_quota_is_refused_and_raises_the_alarm_once():
    world = World()
    world.in_use = 9_900
    for _ in range(3):
        with pytest.raises(NoSpace):
            await world.quota.check(PUT)
    assert world.changes == [True]


async def test_the_alarm_goes_when_there_is_space_again_and_not_before(monkeypatch):
    monkeypatch.setattr(quota_module, "CHECK_SECONDS", 0.001)
    world = World()
    world.in_use = 9_900
    with pytest.raises(NoSpace):
        await world.quota.check(PUT)
    task = asyncio.create_task(world.quota.run())
    world.in_use = 9_001
    await asyncio.sleep(0.02)
    assert world.changes == [True]
    world.in_use = 8_999
    await asyncio.sleep(0.02)
    assert world.changes == [True, False]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
