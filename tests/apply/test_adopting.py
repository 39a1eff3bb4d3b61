"""A member's store replaced while its log runs on: three real members, one of them in doubt.

Real cores, logs and stores on disk; only the network is a function call on the loop.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from kvshim.apply.machine import ApplyMachine
from kvshim.apply.members import store_members
from kvshim.apply.snapshots import Generations
from kvshim.backend.backend import Backend, BackendOptions
from kvshim.backend.datadir import DataDir, remove_other_generations
from kvshim.mvcc.hashing import hash_all
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.pb.kvshim.member_pb2 import Member as MemberRecord
from raft.core.messages import InstallSnapshot
from raft.interface import Index, LogError, MemberId, SnapshotMeta, Term
from raft.node import Node
from raft.options import NodeOptions
from raft.snapshots import SnapshotSender
from raft.storage import LogStorage
from tests.raft.test_members import QUICK, Net, until

IDS = (1, 2, 3)


class One:
    """A member: its directory, log, store, and the files that it is sent."""

    def __init__(self, number: int, directory: Path, world: World) -> None:
        self.number, self.world = number, world
        self.data_dir = DataDir.open(directory)
        self.log_file = LogStorage.open(self.data_dir.raft_path)
        if self.log_file.member_id == 0:
            self.log_file.bootstrap(1, number, cut_index=Index(1), cut_term=Term(1), term=Term(1))
        generation = self.log_file.generation
        remove_other_generations(self.data_dir, generation)
        options = BackendOptions(checkpoint_seconds=0.1)
        self.store = Store(Backend.open(self.data_dir.generation_path(generation), options))
        if self.store.applied_index == 0:
            with self.store.write() as batch:
                store_members(batch, [MemberRecord(id=each) for each in IDS])
                batch.set_applied(1, 1)
        self.failures: list[BaseException] = []
        self.machine = ApplyMachine(
            self.store,
            lambda _: None,
            self.failures.append,
            lambda _: None,
            Generations(self.data_dir, generation, options),
        )
        self.node = Node(self.log_file, cluster_id=1, member_id=number, options=world.options)
        self.machine.on_applied = self.node.applied
        self.snapshots = SnapshotSender(self.machine, self, self.node, self.data_dir.path)
        self.node.connect(world.net, self.snapshots)

    async def start(self) -> None:
        self.world.net.nodes[self.number] = self.node
        self.machine.start()
        await self.node.start(self.machine)

    async def stop(self) -> None:
        self.world.net.nodes.pop(self.number)
        await self.snapshots.stop()
        await self.node.stop()
        await asyncio.to_thread(self.machine.stop)
        self.store.close()
        self.data_dir.close()

    async def send_snapshot(
        self, to: MemberId, term: Term, snapshot: SnapshotMeta, path: Path
    ) -> None:
        """As the transport does, to whoever is to get it."""
        self.world.sent += 1
        await self.world.on_sending()
        other = self.world.members[to]
        received = other.data_dir.path / f"received-{self.world.sent}.tmp"
        shutil.copyfile(path, received)
        message = InstallSnapshot(MemberId(self.number), to, term, snapshot)
        await other.snapshots.accept(message, received)

    def fingerprint(self) -> int:
        with self.store.read() as view:
            return hash_all(view)


async def _at_once() -> None: ...


class World:
    """Three of them."""

    def __init__(self, directory: Path, options: NodeOptions = QUICK) -> None:
        self.directory = directory
        self.options = options
        self.on_sending: Callable[[], Awaitable[None]] = _at_once
        self.net = Net()
        self.sent = 0
        self.next = 0
        self.members: dict[int, One] = {}

    async def start(self, number: int) -> One:
        one = self.members[number] = One(number, self.directory / str(number), self)
        await one.start()
        return one

    async def leader(self) -> One:
        return await until(
            lambda: next((m for m in self.members.values() if m.node.status().leads), None)
        )

    async def follower(self) -> One:
        leader = await self.leader()
        one = next(member for member in self.members.values() if member is not leader)
        await one.node.leader_known()
        return one

    async def put(self, numbers: Sequence[int]) -> None:
        leader = await self.leader()
        for number in numbers:
            put = rpc_pb2.PutRequest(key=b"key%d" % (number % 50), value=b"%d" % number * 20)
            leader.node.propose(Command(id=number + 1, put=put).SerializeToString())

    async def settle(self, revision: int) -> None:
        def there() -> bool:
            assert not any(member.failures for member in self.members.values())
            return all(member.store.revision == revision for member in self.members.values())

        await until(there, 20)

    def equal(self) -> bool:
        return len({member.fingerprint() for member in self.members.values()}) == 1


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    for number in IDS:
        await made.start(number)
    yield made
    for member in list(made.members.values()):
        await member.stop()


def damage(member: One) -> None:
    """What a bad disk does."""
    member.store.backend.writer.run("UPDATE history SET value = x'00' WHERE id = 5 << 24")
    assert member.store.backend.writer.changes() == 1


async def adopt(world: World, one: One) -> None:
    least = await asyncio.to_thread(one.machine.hold)
    adopting = asyncio.create_task(one.node.adopt_store(least))
    (await world.leader()).node.offer_store(MemberId(one.number), least)
    async with asyncio.timeout(20):
        await adopting
    await asyncio.to_thread(one.machine.wait_installed)


async def test_a_store_is_replaced_although_the_log_lacks_nothing(world: World) -> None:
    await world.put(range(100))
    await world.settle(101)
    one = await world.follower()
    damage(one)
    assert not world.equal()
    last = one.node.status().last_index
    await adopt(world, one)
    assert world.equal()
    assert one.node.status().last_index == last, "the log was cut"
    await world.put(range(100, 150))
    await world.settle(151)
    assert world.equal()


async def test_entries_that_come_meanwhile_are_applied_once(world: World) -> None:
    """Given a store of a later entry than the one held at, then only what is behind it follows."""
    await world.put(range(50))
    await world.settle(51)
    one = await world.follower()
    damage(one)
    least = await asyncio.to_thread(one.machine.hold)
    await world.put(range(50, 300))
    leader = await world.leader()
    await until(lambda: leader.store.revision == 301)
    assert one.store.revision == 51, "a held store was written to"
    adopting = asyncio.create_task(one.node.adopt_store(least))
    leader.node.offer_store(MemberId(one.number), least)
    await world.put(range(300, 400))
    async with asyncio.timeout(20):
        await adopting
    await world.settle(401)
    assert world.equal()
    assert one.machine.pending_bytes() == 0


async def test_what_came_too_late_is_not_taken(world: World) -> None:
    """Given up, applying goes on; a store that comes then must not take it back."""
    await world.put(range(50))
    await world.settle(51)
    one = await world.follower()
    least = await asyncio.to_thread(one.machine.hold)
    adopting = asyncio.create_task(one.node.adopt_store(least))
    await asyncio.sleep(0)
    adopting.cancel()
    await asyncio.gather(adopting, return_exceptions=True)
    one.machine.release()
    before = one.log_file.generation
    (await world.leader()).node.offer_store(MemberId(one.number), least)
    await until(lambda: world.sent == 1)
    await world.put(range(50, 100))
    await world.settle(101)
    assert one.log_file.generation == before
    assert world.equal()


async def test_a_damaged_store_is_not_taken_from_the_leader(world: World) -> None:
    await world.put(range(100))
    await world.settle(101)
    one = await world.follower()
    damage(await world.leader())
    with pytest.raises(LogError, match=r"the leader's store is damaged at revision 5\.0"):
        await adopt(world, one)
    one.machine.release()
    await world.put(range(100, 120))
    await world.settle(121)


async def test_a_member_that_dies_before_it_opens_the_new_store_starts_on_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put(range(100))
    await world.settle(101)
    one = await world.follower()
    damage(one)
    # Given a process that ends when the log names the new store, and no sooner
    monkeypatch.setattr(one.machine, "install", lambda *_: None)
    least = await asyncio.to_thread(one.machine.hold)
    adopting = asyncio.create_task(one.node.adopt_store(least))
    (await world.leader()).node.offer_store(MemberId(one.number), least)
    async with asyncio.timeout(20):
        await adopting
    await one.stop()
    await world.put(range(100, 130))
    # When it starts again, then it is on the new store, and follows
    again = await world.start(one.number)
    assert again.log_file.generation == 2
    await world.settle(131)
    assert world.equal()


async def test_damage_found_while_applying_holds_the_entries(world: World) -> None:
    """SQLite itself finds a page that is none: nothing is skipped, and the new store goes on."""
    await world.put(range(200))
    await world.settle(201)
    one = await world.follower()
    told: list[str] = []

    def mend(error: Exception) -> bool:
        told.append(str(error))
        return True

    ((root,),) = one.store.backend.writer.all(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'kv'"
    )
    page_bytes = one.store.backend.writer.db.pragma("page_size")
    await one.stop()
    path = one.data_dir.generation_path(one.log_file.generation)
    pages = bytearray(path.read_bytes())
    pages[(root - 1) * page_bytes] = 0xEE  # no kind of page
    path.write_bytes(pages)
    again = world.members[one.number] = One(one.number, one.data_dir.path, world)
    again.machine.on_corrupt = mend
    await again.start()
    await world.put(range(200, 260))
    await until(lambda: bool(told), 20)
    assert "corrupt" in told[0]
    await adopt(world, again)
    await world.settle(261)
    assert world.equal()
