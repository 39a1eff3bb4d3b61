"""The running log of one member: order, group commit, replay, bounds, cutting, failing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from raft.core import HardState
from raft.database import LogOptions
from raft.interface import (
    Entry,
    Index,
    LogError,
    MemberId,
    Membership,
    NoLeader,
    SnapshotMeta,
    Term,
    TooManyProposals,
)
from raft.member import RetentionOptions
from raft.node import Node
from raft.options import NodeHooks, NodeOptions
from raft.storage import LogStorage


class Machine:
    """Remembers what it was given; `durable` is what it claims to hold safely."""

    def __init__(self, applied: int = 0, voters: Sequence[int] = (2,)) -> None:
        self.applied = Index(applied)
        self.voters = voters
        self.tell: Callable[[Index], None] = lambda _: None
        self.durable = Index(0)
        self.batches: list[list[Entry]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.changed = threading.Condition()

    @property
    def commands(self) -> list[bytes]:
        return [entry.data for batch in self.batches for entry in batch if entry.data]

    def apply(self, entries: Sequence[Entry]) -> None:
        self.gate.wait()
        with self.changed:
            for entry in entries:
                assert entry.index == self.applied + 1
                self.applied = entry.index
            self.batches.append(list(entries))
            self.changed.notify_all()
        self.tell(self.applied)

    def applied_index(self) -> Index:
        return self.applied

    def durable_index(self) -> Index:
        return self.durable

    def membership(self) -> Membership:
        return Membership.of(self.voters)

    def pending_bytes(self) -> int:
        return 0

    def copy(self, path: Path) -> SnapshotMeta:
        raise NotImplementedError

    def accept(self, path: Path, snapshot: SnapshotMeta) -> int:
        raise NotImplementedError

    def install(self, generation: int, snapshot: SnapshotMeta) -> None:
        raise NotImplementedError

    async def wait_for(self, index: int) -> None:
        def wait() -> bool:
            with self.changed:
                return self.changed.wait_for(lambda: self.applied >= index, timeout=10)

        assert await asyncio.to_thread(wait), f"stuck at {self.applied}"


def node_on(
    path: Path,
    options: NodeOptions | None = None,
    hooks: NodeHooks | None = None,
    wal_bytes_max: int = 8 << 20,
) -> Node:
    storage = LogStorage.open(path, LogOptions(wal_bytes_max=wal_bytes_max))
    return Node(storage, cluster_id=1, member_id=2, options=options, hooks=hooks)


def fill(node: Node, command: bytes) -> int:
    """Propose until the queue is full; how many were taken."""
    for taken in range(1_000):
        try:
            node.propose(command)
        except TooManyProposals:
            return taken
    raise AssertionError("the queue has no end")


class OutsideReader:
    """Another program that reads; a process, since SQLite's locks belong to processes."""

    PROGRAM = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
print(db.execute("SELECT count(*) FROM entries").fetchone(), flush=True)
sys.stdin.read()
"""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", self.PROGRAM, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def leave(self) -> None:
        """End the transaction."""
        self.process.communicate()


async def write_bytes(node: Node, machine: Machine, size: int) -> None:
    """Propose that much in small batches, each applied before the next."""
    for _ in range(0, size, 32_000):
        before = node.status().last_index
        for _ in range(8):
            node.propose(b"x" * 4_000)
        await machine.wait_for(before + 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raft.db"


async def test_commands_reach_the_machine_in_order_and_durable(path: Path) -> None:
    machine, node = Machine(), node_on(path)
    await node.start(machine)
    for number in range(1000):
        node.propose(b"%d" % number)
    await node.stop()

    assert machine.commands == [b"%d" % number for number in range(1000)]
    storage = LogStorage.open(path)
    stored = storage.entries(Index(1), storage.last_index, 1 << 30)
    assert stored == [entry for batch in machine.batches for entry in batch]


async def test_each_start_begins_a_term_with_an_entry_of_its_own(path: Path) -> None:
    machine = Machine()
    for term in (1, 2, 3):
        node = node_on(path)
        await node.start(machine)
        status = node.status()
        assert (status.term, status.leader_id, status.commit_index) == (term, 2, term)
        assert machine.batches[-1] == [Entry(Index(term), Term(term), b"")]
        await node.stop()


async def test_what_waits_shares_one_fsync(path: Path) -> None:
    machine, fsyncs = Machine(), list[float]()
    node = node_on(path, hooks=NodeHooks(on_fsync=fsyncs.append))
    await node.start(machine)
    for number in range(300):
        node.propose(b"%d" % number)
    await node.stop()

    assert len(machine.commands) == 300
    assert 1 <= len(fsyncs) < 60


async def test_a_batch_is_bounded_by_entries_and_by_bytes(path: Path) -> None:
    machine = Machine()
    node = node_on(path, NodeOptions(batch_entries_max=10, batch_bytes_max=1_000))
    await node.start(machine)
    machine.gate.clear()
    for _ in range(100):
        node.propose(b"x")
    for _ in range(20):
        node.propose(b"x" * 400)
    machine.gate.set()
    await node.stop()

    assert max(len(batch) for batch in machine.batches) == 10
    assert max(sum(len(entry.data) for entry in batch) for batch in machine.batches) == 1_200


async def test_a_read_index_covers_what_the_machine_was_given(path: Path) -> None:
    machine, node = Machine(), node_on(path)
    await node.start(machine)
    before = machine.applied_index()
    node.propose(b"a")
    await machine.wait_for(before + 1)
    assert await node.read_index() == before + 1
    await node.stop()


async def test_restart_replays_only_what_the_machine_lacks(path: Path) -> None:
    first, node = Machine(), node_on(path)
    await node.start(first)
    for number in range(100):
        node.propose(b"%d" % number)
    await node.stop()

    late = Machine(applied=41)
    again = node_on(path, NodeOptions())
    await again.start(late)

    assert late.commands == [b"%d" % number for number in range(40, 100)]
    assert late.applied == 102
    await again.stop()


async def test_a_machine_ahead_of_the_log_is_refused_and_nothing_is_written(path: Path) -> None:
    node = node_on(path)
    await node.start(Machine())
    await node.stop()
    before = path.read_bytes()  # noqa: ASYNC240

    with pytest.raises(LogError, match=r"applied entry 2 but .* ends at entry 1"):
        await node_on(path).start(Machine(applied=2))

    assert path.read_bytes() == before  # noqa: ASYNC240


async def test_a_machine_behind_the_cut_is_refused(path: Path) -> None:
    storage = LogStorage.open(path)
    entries = [Entry(Index(n), Term(1), b"x") for n in range(1, 11)]
    storage.append(entries, hard_state=HardState(Term(1), MemberId(2), Index(10)))
    storage.cut(Index(5))
    storage.close()

    with pytest.raises(LogError, match=r"applied entry 4 but .* begins at entry 6"):
        await node_on(path).start(Machine(applied=4))

    machine = Machine(applied=5)
    node = node_on(path)
    await node.start(machine)
    assert machine.applied == 11
    await node.stop()


async def test_another_members_log_is_refused(path: Path) -> None:
    node = node_on(path)
    await node.start(Machine())
    await node.stop()
    other = Node(LogStorage.open(path), cluster_id=1, member_id=3)

    with pytest.raises(LogError, match="belongs to member 2"):
        await other.start(Machine(applied=1))
    await other.stop()


async def test_the_queue_is_bounded_and_drains(path: Path) -> None:
    machine = Machine()
    node = node_on(path, NodeOptions(queue_entries_max=50, batch_entries_max=5))
    await node.start(machine)
    machine.gate.clear()
    taken = fill(node, b"x")
    assert 50 <= taken <= 60

    machine.gate.set()
    await machine.wait_for(1 + taken)
    node.propose(b"again")
    await node.stop()
    assert machine.commands == [b"x"] * taken + [b"again"]


async def test_the_queue_is_bounded_by_bytes(path: Path) -> None:
    machine = Machine()
    node = node_on(path, NodeOptions(queue_bytes_max=10_000, batch_entries_max=1))
    await node.start(machine)
    machine.gate.clear()
    assert 10 <= fill(node, b"x" * 1_000) <= 11
    machine.gate.set()
    await node.stop()


async def test_the_log_is_cut_behind_the_durable_index_only(path: Path) -> None:
    machine = Machine()
    keep = RetentionOptions(entries_kept=100, slice_entries_max=20)
    node = node_on(path, NodeOptions(retention=keep, batch_entries_max=7))
    await node.start(machine)
    for _ in range(500):
        node.propose(b"x")
    await machine.wait_for(501)
    assert node.status().first_index == 1

    machine.durable = Index(333)
    for _ in range(500):
        node.propose(b"x")
    await machine.wait_for(1001)
    assert node.status().first_index == 334

    machine.durable = Index(10_000)
    for _ in range(700):
        node.propose(b"x")
    await node.stop()
    status = node.status()
    assert 100 <= status.last_index - status.first_index + 1 <= 130
    assert len(machine.commands) == 1_700


async def test_the_wal_is_bounded_while_writes_go_on(path: Path) -> None:
    machine = Machine()
    node = node_on(path, wal_bytes_max=256 << 10)
    await node.start(machine)
    wal = path.with_name("raft.db-wal")
    highest = 0
    for _ in range(100):
        await write_bytes(node, machine, 64_000)
        highest = max(highest, wal.stat().st_size)
    await node.stop()

    assert highest < 1 << 20
    assert not wal.exists() or wal.stat().st_size == 0


async def test_an_outside_reader_delays_the_wal_but_stops_nothing(path: Path) -> None:
    machine = Machine()
    told: list[int] = []
    hooks = NodeHooks(on_wal_pinned=told.append, on_wal_released=lambda: told.append(0))
    node = node_on(path, wal_bytes_max=128 << 10, hooks=hooks)
    await node.start(machine)
    await write_bytes(node, machine, 1 << 20)
    assert told == [], "without a reader nothing is told"
    reader = OutsideReader(path)
    wal = path.with_name("raft.db-wal")

    await write_bytes(node, machine, 3 << 20)
    pinned = wal.stat().st_size
    reader.leave()
    await write_bytes(node, machine, 6 << 20)
    freed = wal.stat().st_size
    reader = OutsideReader(path)
    await node.stop()
    reader.leave()

    assert pinned > 3 << 20
    assert len(told) == 2, "told once, and its end"
    assert told[0] > 128 << 10
    assert told[1] == 0
    assert freed < 1 << 20, "the WAL started over and shrank once the reader had left"
    assert LogStorage.open(path).last_index == machine.applied


async def test_a_full_disk_stops_the_node_and_nothing_further_is_applied(path: Path) -> None:
    machine, fatal = Machine(), list[LogError]()
    storage = LogStorage.open(path)
    told = threading.Event()

    def on_fatal(error: LogError) -> None:
        fatal.append(error)
        told.set()

    node = Node(storage, cluster_id=1, member_id=2, hooks=NodeHooks(on_fatal=on_fatal))
    await node.start(machine)
    storage._db.pragma("max_page_count", storage._db.pragma("page_count") + 2)
    applied = machine.applied
    node.propose(b"x" * 100_000)
    assert await asyncio.to_thread(told.wait, 5)

    assert machine.applied == applied
    assert str(fatal[0]) == f"cannot write {path}: the disk is full"
    with pytest.raises(NoLeader):
        node.propose(b"y")
    with pytest.raises(NoLeader):
        await node.read_index()
    await node.stop()
    assert LogStorage.open(path).last_index == applied


async def test_a_failing_machine_stops_the_node(path: Path) -> None:
    class Failing(Machine):
        def apply(self, entries: Sequence[Entry]) -> None:
            if entries[0].data:
                raise RuntimeError("out of order")
            super().apply(entries)

    fatal = list[LogError]()
    node = node_on(path, hooks=NodeHooks(on_fatal=fatal.append))
    await node.start(Failing())
    node.propose(b"x")
    await node.stop()

    assert [str(error) for error in fatal] == ["the log stops: out of order"]


async def test_slow_fsyncs_are_told(path: Path) -> None:
    slow = list[float]()
    options = NodeOptions(slow_fsync_seconds=0.0)
    node = node_on(path, options, NodeHooks(on_slow_fsync=slow.append))
    await node.start(Machine())
    node.propose(b"x")
    await node.stop()

    assert len(slow) == 1


async def test_a_node_that_never_started_stops(path: Path) -> None:
    node = node_on(path)
    with pytest.raises(NoLeader):
        node.propose(b"x")
    await node.stop()
