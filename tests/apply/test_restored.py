"""A snapshot comes while a node serves: watches miss, repeat and reorder nothing; nobody hangs."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvshim.api.watch import WatchService
from kvshim.apply.outcome import Outcome
from kvshim.config import Loaded, load
from kvshim.metrics.registry import Metrics
from kvshim.mvcc.ranges import execute_range
from kvshim.node.delivery import Delivery
from kvshim.node.reports import Reports
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.server.alarms import Alarms
from kvshim.server.lessor import Lessor
from kvshim.server.members import MemberBook
from kvshim.server.physical import PhysicalCompaction
from kvshim.server.proposer import Proposer
from kvshim.server.quota import Quota
from kvshim.server.reader import Reader
from kvshim.server.settling import Settling
from kvshim.server.versions import ClusterVersion
from kvshim.types import Revision
from kvshim.watch.hub import Hub
from tests.apply.support import KEYS, Member, put
from tests.backend.support import eventually
from tests.watch.conftest import Client, header_of
from tests.watch.fakes import FakeLog

OWN_ID = 7


class Node:
    """A member whose outcomes go through the real `Delivery`."""

    def __init__(self, directory: Path) -> None:
        self.delivery: Delivery | None = None
        self.failures: list[BaseException] = []
        self.member = Member(directory, self._deliver)
        store = self.member.store
        self.readers = ThreadPoolExecutor(4)
        config = load(["--data-dir", str(directory)], {})
        assert isinstance(config, Loaded)
        logger, log = cast("Any", FakeLog()), cast("Any", SimpleNamespace())

        async def nothing(*_: object) -> None: ...

        loop = asyncio.get_running_loop()
        proposer = Proposer(log, OWN_ID, 1 << 20, 5)
        self.delivery = Delivery(
            loop=loop,
            hub=Hub(store, self.readers, 600, logger),
            lessor=Lessor((), nothing, loop.time, lambda _: None),
            alarms=Alarms((), OWN_ID),
            quota=Quota(1 << 30, lambda: 0, nothing, 1 << 20),
            proposer=proposer,
            members=MemberBook(OWN_ID, (), proposer),
            version=ClusterVersion(1),
            reader=Reader(store, log, self.readers, 5),
            physical=PhysicalCompaction(store.physically_compacted, lambda: Revision(10)),
            settling=Settling(loop, store),
            reports=Reports(logger, Metrics(config.config.metrics), 10),
            on_fatal=self.failures.append,
        )
        service = WatchService(self.delivery.hub, header_of, 2 << 20, has_leader=lambda: True)
        self.client = lambda: Client(service)

    def _deliver(self, outcome: Outcome) -> None:
        assert self.delivery is not None
        self.delivery.post(outcome)

    async def settle(self) -> None:
        async with asyncio.timeout(10):
            assert self.delivery is not None
            await self.delivery.reader.applied(self.member.handed)
        assert self.failures == self.member.failures == []

    async def close(self) -> None:
        assert self.delivery is not None
        self.delivery.hub.close()
        await asyncio.to_thread(self.member.machine.stop)
        self.readers.shutdown()
        self.member.close()


async def watched(client: Client, until: int) -> list[tuple[int, bytes, bytes]]:
    found: list[tuple[int, bytes, bytes]] = []
    while not found or found[-1][0] < until:
        response = await client.next()
        assert not response.canceled
        found += [(e.kv.mod_revision, e.kv.key, e.kv.value) for e in response.events]
        assert response.header.revision >= found[-1][0]
    return found


def expected(first: int, last: int, key: bytes | None = None) -> list[tuple[int, bytes, bytes]]:
    rows = [(i, b"key%02d" % (i % KEYS), b"value of %d" % i) for i in range(first, last + 1)]
    return [row for row in rows if key is None or row[1] == key]


async def test_watches_and_pages_go_on_through_snapshots(tmp_path: Path) -> None:
    """Given snapshots with entries right in front of them and behind, while others watch and read
    pages at one revision, then every watcher sees each revision once and in order, and every page
    is the same."""
    ahead, node = Member(tmp_path / "ahead"), Node(tmp_path / "behind")
    behind = node.member
    stop = asyncio.Event()
    pages_read = 0
    end = 0
    try:
        behind.put_through(100)
        await node.settle()
        present, past, single = node.client(), node.client(), node.client()
        await present.created(b"key", b"kez")
        await past.created(b"key", b"kez", start_revision=2)
        await single.created(b"key07", start_revision=50)
        at = {
            b"key%02d" % (i % KEYS): b"value of %d" % i for i in range(2, 101)
        }  # as of revision 100

        def page(start: bytes) -> list[tuple[bytes, bytes]]:
            request = rpc_pb2.RangeRequest(key=start, range_end=b"kez", limit=7, revision=100)
            with behind.store.read() as view:
                answer = execute_range(view, request).message()
            return [(kv.key, kv.value) for kv in answer.kvs]

        async def read_pages() -> None:
            nonlocal pages_read
            while not stop.is_set():
                got: list[tuple[bytes, bytes]] = []
                while rows := await asyncio.get_running_loop().run_in_executor(
                    node.readers, page, got[-1][0] + b"\x00" if got else b"key"
                ):
                    got += rows
                    pages_read += 1
                assert got == sorted(at.items())

        listing = asyncio.create_task(read_pages())
        end = 100
        for _ in range(6):
            behind.put_through(end + 30)  # perhaps applied when the snapshot comes, perhaps not
            ahead.put_through(end + 200)
            snapshot = await asyncio.to_thread(ahead.copy_to, behind)
            generation = await asyncio.to_thread(behind.machine.accept, *snapshot)
            end = snapshot[1].index + 25
            with behind.machine._changed:  # the first batch behind it is there at once
                behind.machine.install(generation, snapshot[1])
                behind.handed = snapshot[1].index
                behind.put_through(end)
            behind.settle()  # the loop stands still: the store is ahead of it
        await node.settle()
        assert await watched(present, end) == expected(101, end)
        assert await watched(past, end) == expected(2, end)
        of_one = expected(50, end, b"key07")
        assert await watched(single, of_one[-1][0]) == of_one
        stop.set()
        await listing
        assert pages_read > 20
        for client in (present, past, single):
            await client.silent()
            await client.gone()
    finally:
        await node.close()
        ahead.close()


async def test_leases_alarms_and_waiting_reads_follow_the_snapshot(tmp_path: Path) -> None:
    ahead, node = Member(tmp_path / "ahead"), Node(tmp_path / "behind")
    work = node.delivery
    assert work is not None
    activate = rpc_pb2.AlarmRequest.ACTIVATE
    try:
        node.member.apply(
            Command(lease_grant=rpc_pb2.LeaseGrantRequest(ID=4, TTL=600)),
            Command(
                alarm=rpc_pb2.AlarmRequest(action=activate, memberID=OWN_ID, alarm=rpc_pb2.CORRUPT)
            ),
        )
        await node.settle()
        assert work.lessor.leases() == [4]
        assert work.alarms.own_corrupt
        ahead.apply(
            *(put(index) for index in range(2, 20)),
            Command(lease_grant=rpc_pb2.LeaseGrantRequest(ID=5, TTL=600)),
            Command(compaction=rpc_pb2.CompactionRequest(revision=10)),
            Command(
                alarm=rpc_pb2.AlarmRequest(action=activate, memberID=OWN_ID, alarm=rpc_pb2.NOSPACE)
            ),
        )
        await asyncio.to_thread(ahead.settle)
        assert await asyncio.to_thread(eventually, lambda: ahead.store.physically_compacted == 10)
        waiting = asyncio.create_task(work.reader.applied(ahead.handed))
        physical = asyncio.create_task(work.physical.wait())
        snapshot = await asyncio.to_thread(ahead.copy_to, node.member)
        await asyncio.to_thread(node.member.install, *snapshot)
        async with asyncio.timeout(10):
            await waiting
            await physical
        assert work.lessor.leases() == [5]
        assert [member.id for member in work.members.members] == [7, 8]
        assert work.lessor.time_to_live(5)[1] == 600  # type: ignore[arg-type]
        assert (work.alarms.own_corrupt, work.alarms.own_nospace) == (False, True)
        assert work.quota._raised.is_set()
        assert node.failures == []
    finally:
        await node.close()
        ahead.close()


@pytest.mark.parametrize("ahead_by", [0, 15])
async def test_a_watcher_behind_what_the_snapshot_has_compacted_is_told_so(
    tmp_path: Path, ahead_by: int
) -> None:
    ahead, node = Member(tmp_path / "ahead"), Node(tmp_path / "behind")
    try:
        node.member.put_through(20)
        await node.settle()
        client = node.client()
        await client.created(b"key", b"kez")
        ahead.put_through(80)
        ahead.apply(Command(compaction=rpc_pb2.CompactionRequest(revision=60)))
        snapshot = await asyncio.to_thread(ahead.copy_to, node.member)
        await asyncio.to_thread(node.member.install, *snapshot)
        node.member.put_through(snapshot[1].index + ahead_by)
        await node.settle()
        response = await client.next()
        assert response.canceled
        assert response.compact_revision == 60
        await client.gone()
    finally:
        await node.close()
        ahead.close()
