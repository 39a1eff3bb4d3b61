"""State machines on directories, fed with one history of commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvshim.apply.machine import ApplyMachine, BatchTiming
from kvshim.apply.members import store_members
from kvshim.apply.outcome import Outcome
from kvshim.apply.snapshots import Generations
from kvshim.backend.backend import Backend, BackendOptions
from kvshim.backend.datadir import DataDir, remove_other_generations
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.pb.kvshim.member_pb2 import Member as MemberRecord
from raft.interface import Entry, Index, SnapshotMeta, Term
from tests.backend.support import eventually

TERM = Term(3)
MEMBERS = [MemberRecord(id=7), MemberRecord(id=8, learner=True)]
KEYS = 40


def put(index: int, value: bytes = b"") -> Command:
    """The history's ordinary entry: at index i it makes revision i."""
    value = value or b"value of %d" % index
    return Command(id=index, put=rpc_pb2.PutRequest(key=b"key%02d" % (index % KEYS), value=value))


class Member:
    """One member's store and state machine; entry 1 is its first membership."""

    def __init__(
        self,
        directory: Path,
        deliver: Callable[[Outcome], None] | None = None,
        generation: int = 1,
    ) -> None:
        self.data_dir = DataDir.open(directory)
        remove_other_generations(self.data_dir, generation)
        options = BackendOptions(checkpoint_seconds=0.1)
        self.store = Store(Backend.open(self.data_dir.generation_path(generation), options))
        if self.store.applied_index == 0:
            with self.store.write() as batch:
                store_members(batch, MEMBERS)
                batch.set_applied(1, TERM)
        self.outcomes: list[Outcome] = []
        self.failures: list[BaseException] = []
        self.timings: list[BatchTiming] = []
        self.indices: list[int] = []
        self.machine = ApplyMachine(
            self.store,
            deliver or self.outcomes.append,
            self.failures.append,
            self.timings.append,
            Generations(self.data_dir, generation, options),
        )
        self.machine.on_applied = self.indices.append
        self.machine.start()
        self.handed = self.store.applied_index

    def apply(self, *commands: Command) -> None:
        """Hand entries over without waiting."""
        entries = []
        for command in commands:
            self.handed += 1
            entries.append(Entry(Index(self.handed), TERM, command.SerializeToString()))
        self.machine.apply(entries)

    def put_through(self, index: int) -> None:
        """Hand over the history's ordinary entries up to one."""
        self.apply(*(put(number) for number in range(self.handed + 1, index + 1)))

    def settle(self) -> None:
        """Wait until everything handed over is applied."""
        assert eventually(lambda: self.store.applied_index >= self.handed or bool(self.failures))
        assert self.failures == []

    def copy_to(self, other: Member, name: str = "received.tmp") -> tuple[Path, SnapshotMeta]:
        """A snapshot on the other one's disk."""
        self.settle()
        path = other.data_dir.path / name
        return path, self.machine.copy(path)

    def install(self, path: Path, snapshot: SnapshotMeta) -> int:
        """All that a member does with a snapshot that came."""
        generation = self.machine.accept(path, snapshot)
        self.machine.install(generation, snapshot)
        self.handed = snapshot.index
        return generation

    def files(self) -> set[str]:
        """Names of the databases in the directory."""
        return {path.name for path in self.data_dir.path.glob("*.db*") if path.suffix == ".db"}

    def close(self) -> None:
        self.machine.stop()
        self.store.close()
        self.data_dir.close()
