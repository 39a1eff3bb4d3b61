"""Short ranges need no reader thread, and leave the event loop to others in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from kvshim.api.changes import Changes
from kvshim.api.header import Headers
from kvshim.api.kv import KVService
from kvshim.mvcc import turn
from kvshim.mvcc.ranges import FEW_KEYS
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Call
from kvshim.server.physical import PhysicalCompaction
from kvshim.server.reader import Reader
from raft.interface import ReplicatedLog
from tests.mvcc.conftest import Driver, driver
from tests.server.cluster import ME, Log, settle

__all__ = ["driver"]

NO_CALL = cast("Call", None)
ALL = rpc_pb2.RangeRequest(key=b"key", range_end=b"kez", serializable=True)
ONE = rpc_pb2.RangeRequest(key=b"key", serializable=True)


@pytest.fixture
def busy_threads() -> Iterator[ThreadPoolExecutor]:
    """Reader threads of which none is free until the test ends."""
    with ThreadPoolExecutor(2) as executor:
        over = threading.Event()
        for _ in range(2):
            executor.submit(over.wait)
        yield executor
        over.set()


@pytest.fixture
async def service(driver: Driver, busy_threads: ThreadPoolExecutor) -> KVService:
    log = Log(voters=(ME,))
    log.lead(ME)
    reader = Reader(driver.store, cast("ReplicatedLog", log), busy_threads, 5.0, log.leadership)
    return KVService(
        changes=cast("Changes", None),
        reader=reader,
        physical=cast("PhysicalCompaction", None),
        headers=Headers(1, ME, driver.store, cast("ReplicatedLog", log)),
        txn_ops_max=128,
    )


def count_of(reply: object) -> int:
    assert isinstance(reply, bytes)
    return rpc_pb2.RangeResponse.FromString(reply).count


async def test_few_keys_are_read_although_all_threads_are_busy(service: KVService, driver: Driver):
    for number in range(FEW_KEYS):
        driver.put(b"key%04d" % number)
    assert count_of(service.short_range(ALL, NO_CALL)) == FEW_KEYS
    assert count_of(await service.range(ALL, NO_CALL)) == FEW_KEYS
    driver.put(b"key9999")
    await settle()
    assert service.short_range(ALL, NO_CALL) is None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(service.range(ALL, NO_CALL), 0.1)


async def test_many_ranges_share_turns_with_others(
    service: KVService, driver: Driver, monkeypatch: pytest.MonkeyPatch
):
    """Given reads that fill a turn, then the others have turns in between, and all are read."""
    monkeypatch.setattr(turn, "TURN_SECONDS_MAX", 0.0)
    driver.put(b"key")
    ranges = [asyncio.ensure_future(service.range(ALL, NO_CALL)) for _ in range(20)]
    turns = 0
    while not all(task.done() for task in ranges):
        turns += 1
        assert sum(task.done() for task in ranges) <= turns
        await asyncio.sleep(0)
    assert [count_of(await task) for task in ranges] == [1] * 20
    assert service.short_range(ALL, NO_CALL) is None
    assert count_of(service.short_range(ONE, NO_CALL)) == 1
