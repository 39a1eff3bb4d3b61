"""One member's storage driven step by step on a disk that may lose power at any of its writes.

The production code of `raft.member`, `raft.storage`, the backend and the store runs here on one
thread: append -> apply, checkpoints of both files, compaction, log cuts, clean restarts, in a
seeded order. `Machine` stands in for the node's apply thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from kvshim.backend.backend import Backend, BackendOptions
from kvshim.errors import StorageError
from kvshim.mvcc.ranges import execute_range
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import NO_LEASE, EventKind, KeyRange, Revision
from raft.core import CoreOptions, ReadState, SnapshotOrder
from raft.core.messages import Message
from raft.core.ready import Ready
from raft.database import LogOptions, WalCopier
from raft.interface import Entry, Index, MemberId, Membership, SnapshotMeta
from raft.member import Member as LogMember
from raft.member import RetentionOptions
from raft.storage import LogStorage
from tests.powercut.model import Change, Compact, Model, decode, encode, some_command
from tests.powercut.vfs import Disk, PowerCut

ALL_KEYS = KeyRange(b"\x00", None)
RETENTION = RetentionOptions(entries_kept=3, bytes_kept=20_000, slice_entries_max=4)
MEMBER_ID = MemberId(6)
NEVER = 1_000_000


@dataclass(slots=True)
class Promise:
    """What outlives the machine: the commands by index, and how far they were acknowledged."""

    commands: list[bytes] = field(default_factory=list)
    acknowledged: int = 0

    def model(self) -> Model:
        """The state after all commands."""
        model = Model()
        for data in self.commands:
            model.apply(decode(data))
        return model


class Machine:
    """Applies entries to the store as the apply thread does: one transaction a batch."""

    def __init__(self, backend: Backend, store: Store) -> None:
        self.backend = backend
        self.store = store
        self.given: Callable[[Sequence[Entry]], None] = lambda _: None

    def apply(self, entries: Sequence[Entry]) -> None:
        self.given(entries)
        with self.store.write(stays_open=True) as batch:
            for entry in entries:
                match decode(entry.data):
                    case Change(ops):
                        txn = batch.begin()
                        for key, value in ops:
                            if value is None:
                                txn.delete_range(KeyRange.of(key, b""))
                            else:
                                txn.put(key, value, NO_LEASE)
                        txn.finish()
                    case Compact(revision):
                        batch.compact(revision)
                    case None:
                        pass
            batch.set_applied(entries[-1].index, entries[-1].term)

    def applied_index(self) -> Index:
        return Index(self.store.applied_index)

    def durable_index(self) -> Index:
        return Index(self.backend.durable_index())

    def pending_bytes(self) -> int:
        return 0

    def membership(self) -> Membership:
        return Membership.of([MEMBER_ID])

    def copy(self, path: Path) -> SnapshotMeta:
        raise NotImplementedError

    def accept(self, path: Path, snapshot: SnapshotMeta) -> int:
        raise NotImplementedError

    def install(self, generation: int, snapshot: SnapshotMeta) -> None:
        raise NotImplementedError


class Nobody:
    """Surroundings of a member that is alone."""

    def send(self, messages: Sequence[Message]) -> None:
        raise AssertionError("there is nobody to send to")

    def send_snapshot(self, order: SnapshotOrder) -> None:
        raise AssertionError("there is nobody to send to")

    def reads_ready(self, reads: Sequence[ReadState]) -> None: ...
    def reads_lost(self, contexts: Sequence[int]) -> None: ...
    def forwards_refused(self, sequences: Sequence[int]) -> None: ...
    def looked(self, ready: Ready) -> None: ...


class CarelessMachine(Machine):
    """Claims that what it applied is durable: the log is then cut too early."""

    def durable_index(self) -> Index:
        return self.applied_index()


class Member:
    """The storage of one node on one disk."""

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        promise: Promise,
        machine_type: type[Machine] = Machine,
    ) -> None:
        self.directory = directory
        self.disk = disk
        self.rng = disk.rng
        self.promise = promise
        self.machine_type = machine_type
        self.phase = "start"
        self.log: LogStorage | None = None
        self.copier: WalCopier | None = None
        self.backend: Backend | None = None

    def run(self) -> None:
        """Live until the power goes. Raises `LogError` or `StorageError` when recovery fails."""
        try:
            self.start()
            self.verify()
            while True:
                self.step()
        except Exception:
            if not self.disk.is_off:
                raise
        finally:
            self.abandon()

    def start(self) -> None:
        """Open and replay, as a node does."""
        options = LogOptions(vfs=self.disk.name)
        path = self.directory / "raft.db"
        self.log = LogStorage.open(path, options)
        self.backend = Backend.open(
            self.directory / "kv-1.db",
            BackendOptions(
                page_size=4096,
                wal_bytes_max=300_000,
                checkpoint_bytes=NEVER << 20,
                checkpoint_seconds=NEVER,
                vfs=self.disk.name,
            ),
        )
        self.store = Store(self.backend)
        self.backend.checkpointer.stop()  # its thread: here `run_once` is called in its place
        self.machine = self.machine_type(self.backend, self.store)
        self.machine.given = self.acknowledge
        self.member = LogMember(self.log, self.machine, Nobody(), CoreOptions(MEMBER_ID), RETENTION)
        if self.log.member_id == 0:
            self.log.set_identity(5, MEMBER_ID)
        self.copier = WalCopier(path, options)
        last = self.log.last_index
        assert last >= self.promise.acknowledged, (
            f"acknowledged {self.promise.acknowledged}, the log ends at {last}"
        )
        del self.promise.commands[last:]
        self.promise.commands.append(b"")
        self.member.begin()
        self.tell_applied()
        self.model = self.promise.model()

    def step(self) -> None:
        """One thing that a node does."""
        steps: list[tuple[int, str, Callable[[], object]]] = [
            (60, "write", self.write),
            (8, "checkpoint raft.db", self.checkpoint_log),
            (12, "checkpoint kv.db", self.checkpoint_store),
            (20, "compaction", self.store.between_batches),
            (2, "verify", self.verify),
            (1, "restart", self.restart),
        ]
        _, self.phase, step = self.rng.choices(steps, [weight for weight, _, _ in steps])[0]
        step()

    def write(self) -> None:
        """Append a batch, apply it: from then on it is acknowledged."""
        batch: list[bytes] = []
        for _ in range(self.rng.choice([1, 1, 2, 5])):
            serial = len(self.promise.commands) + 1
            command = some_command(self.rng, self.model, serial)
            self.model.apply(command)
            self.promise.commands.append(encode(command))
            batch.append(encode(command))
        assert self.log is not None
        first = self.log.first_index
        if self.member._cut_through() is not None:
            self.phase = "log cut"
        self.member.propose(batch)
        self.member.work()
        assert self.log.first_index >= first
        assert self.machine.applied_index() == len(self.promise.commands)
        self.tell_applied()

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        """What the state machine is given is committed, and must survive."""
        self.promise.acknowledged = entries[-1].index
        if self.phase != "start":
            self.phase = "apply"

    def tell_applied(self) -> None:
        self.member.core.applied(self.machine.applied_index())
        self.member.work()

    def checkpoint_log(self) -> None:
        """As the node: most of it from the side, the rest between two appends."""
        assert self.copier is not None
        assert self.log is not None
        self.copier.copy()
        assert self.log.checkpoint()

    def checkpoint_store(self) -> None:
        assert self.backend is not None
        self.backend.checkpointer.run_once()

    def restart(self) -> None:
        """A clean stop and start."""
        assert self.log is not None
        assert self.backend is not None
        assert self.copier is not None
        self.copier.close()
        self.log.close()
        self.backend.close()
        self.log = self.backend = self.copier = None
        self.start()
        self.verify()

    def verify(self) -> None:
        """The log is what was appended; the store equals the model, now, in the past, as events."""
        model, store, log = self.model, self.store, self.log
        assert log is not None
        kept = log.entries(log.first_index, log.last_index, 1 << 30)
        assert [entry.data for entry in kept] == self.promise.commands[log.first_index - 1 :]
        assert store.applied_index == len(self.promise.commands)
        with store.read() as view:
            assert (view.revision, view.compact_revision) == (model.revision, model.compacted)
            revisions = [model.revision]
            if model.revision > max(model.compacted, 1):
                revisions.append(self.rng.randint(max(model.compacted, 1), model.revision))
            for revision in revisions:
                request = rpc_pb2.RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision)
                found = execute_range(view, request).message().kvs
                assert {
                    kv.key: (kv.value, kv.mod_revision, kv.version) for kv in found
                } == model.live(revision), f"at revision {revision}"
            events, _ = view.history(
                ALL_KEYS, Revision(model.compacted + 1), view.revision, 1 << 30
            )
            assert [
                (event.revision, event.key, event.kind is EventKind.DELETE) for event in events
            ] == model.history()

    def abandon(self) -> None:
        """The process is gone: close what is open, write nothing."""
        self.disk.is_off = True
        if self.copier is not None:
            self.copier.close()
        if self.log is not None:
            self.log.abandon()
        if self.backend is not None:
            self.backend.failure = StorageError("the power is gone")
            with suppress(PowerCut):
                self.backend.close()


@dataclass(slots=True)
class Life:
    """Power cuts one after the other on the same data, until `cuts` of them were survived."""

    seed: int
    root: Path
    machine_type: type[Machine] = Machine
    hit: list[tuple[str, str]] = field(default_factory=list)

    def live(self, cuts: int) -> None:
        """Raises `AssertionError`, `LogError` or `StorageError` when something was lost."""
        rng = random.Random(self.seed)
        promise = Promise()
        directory = self.root / f"{self.seed}-0"
        directory.mkdir(parents=True)
        for number in range(1, cuts + 1):
            cut_at = rng.randint(1, 400)
            kill_at = rng.randint(1, cut_at - 1) if cut_at > 1 and rng.random() < 0.5 else None
            disk = Disk(rng, cut_at, kill_at)
            try:
                member = Member(directory, disk, promise, self.machine_type)
                member.run()
                if disk.revive():
                    member = Member(directory, disk, promise, self.machine_type)
                    member.run()
            finally:
                disk.unregister()
            self.hit.append((member.phase, disk.cut_in))
            directory = self.root / f"{self.seed}-{number}"
            disk.surviving(directory)
        last = Member(directory, Disk(rng), promise, self.machine_type)
        try:
            last.start()
            last.verify()
        finally:
            last.abandon()
            last.disk.unregister()
