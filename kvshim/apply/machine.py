"""The state machine that the replicated log drives: one thread, one SQLite transaction a batch.

The log hands over durable, committed entries; this thread applies as many as wait in one
transaction, with `applied_index` inside, and only after its COMMIT hands answers and events to the
event loop. Between batches it gives the store a slice of time for compaction and checkpoints.
A snapshot that the log wants takes the store's place between two batches.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from kvshim.apply.dispatch import Applier
from kvshim.apply.members import apply_change, members_of, membership_of
from kvshim.apply.outcome import BatchOutcome, Effect, Outcome, Restored
from kvshim.apply.snapshots import Generations
from kvshim.errors import RequestError, StorageError
from kvshim.mvcc.events import Event
from kvshim.mvcc.store import Store
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.types import EventKind
from raft.interface import (
    ConfChange,
    Entry,
    EntryKind,
    Index,
    LogError,
    Membership,
    SnapshotMeta,
    Term,
)

BATCH_ENTRIES_MAX = 512
"""Entries in one transaction: bounds how long answers of its first command wait."""

STOP_TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """How long a batch took, and the COMMIT within it, in seconds."""

    entries: int
    seconds: float
    commit_seconds: float


@dataclass(frozen=True, slots=True)
class _Installation:
    generation: int
    snapshot: SnapshotMeta


class ApplyMachine:
    """Implements `raft.interface.StateMachine` on the store.

    `deliver`, `on_fatal` and `observe` are called on the apply thread. The totals count what was
    applied since the start, and may be read anywhere. Without `generations` it takes no snapshots.
    """

    def __init__(
        self,
        store: Store,
        deliver: Callable[[Outcome], None],
        on_fatal: Callable[[BaseException], None],
        observe: Callable[[BatchTiming], None],
        generations: Generations | None = None,
    ) -> None:
        self._store = store
        self._deliver = deliver
        self._on_fatal = on_fatal
        self._observe = observe
        self._generations = generations
        with store.read() as view:
            self._applier = Applier(view.alarms())
        self._queue: deque[Entry] = deque()
        self._pending_bytes = 0
        self._installation: _Installation | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._woken = False
        self.on_applied: Callable[[Index], None] = lambda _: None
        """Called on the apply thread when a batch is committed or a snapshot in use."""
        self.puts_total = 0
        self.deletions_total = 0
        self.txns_total = 0
        self._thread = threading.Thread(target=self._run, name="apply", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Apply everything handed over, then end the thread. Blocks; call it off the loop."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_SECONDS)

    def wake(self) -> None:
        """Let the store use an idle moment, such as for a checkpoint that waits for one."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def apply(self, entries: Sequence[Entry]) -> None:
        """Queue committed entries; how many there may be is the log's to bound."""
        with self._changed:
            self._queue.extend(entries)
            self._pending_bytes += sum(len(entry.data) for entry in entries)
            self._changed.notify_all()

    def pending_bytes(self) -> int:
        """Bytes of entries handed over and not yet taken up."""
        return self._pending_bytes

    def membership(self) -> Membership:
        """The members as of `applied_index`."""
        with self._store.read() as view:
            return membership_of(view)

    def applied_index(self) -> Index:
        """The last index whose effects are committed in the store."""
        return Index(self._store.applied_index)

    def durable_index(self) -> Index:
        """The last index whose effects survive a power cut."""
        return Index(self._store.durable_index())

    def _run(self) -> None:
        try:
            more_upkeep = True
            while (work := self._take(more_upkeep)) is not None:
                if isinstance(work, _Installation):
                    self._go_on_from(work)
                elif work:
                    self._apply_batch(work)
                more_upkeep = self._store.between_batches()
        except BaseException as error:
            self._on_fatal(error)

    def copy(self, path: Path) -> SnapshotMeta:
        """Write the store as of one moment to a new file. Any thread; raises `LogError`."""
        try:
            index, term, members = self._store.copy(path, membership_of)
        except StorageError as error:
            raise LogError(str(error)) from error
        return SnapshotMeta(Index(index), Term(term), members)

    def accept(self, path: Path, snapshot: SnapshotMeta) -> int:
        """Make a snapshot's file a generation that is not yet in use. Raises `LogError`."""
        return self._generations_in_use.accept(path, snapshot, self.applied_index())

    def install(self, generation: int, snapshot: SnapshotMeta) -> None:
        """Go on from an accepted generation; what was queued before is part of it."""
        with self._changed:
            self._queue.clear()
            self._pending_bytes = 0
            self._installation = _Installation(generation, snapshot)
            self._changed.notify_all()

    @property
    def _generations_in_use(self) -> Generations:
        if self._generations is None:
            raise LogError("this store takes no snapshots")
        return self._generations

    def _take(self, more_upkeep: bool) -> list[Entry] | _Installation | None:  # noqa: FBT001
        """What comes next; no entries when upkeep should go on, None to end."""
        with self._changed:
            idle = not (self._queue or more_upkeep or self._stopping or self._woken)
            if idle and self._installation is None:
                self._changed.wait()
            self._woken = False
            if self._installation is not None:  # It is older than what is queued.
                installation, self._installation = self._installation, None
                return installation
            if self._stopping and not self._queue:
                return None
            taken = min(len(self._queue), BATCH_ENTRIES_MAX)
            batch = [self._queue.popleft() for _ in range(taken)]
            self._pending_bytes -= sum(len(entry.data) for entry in batch)
            return batch

    def _go_on_from(self, installation: _Installation) -> None:
        store, snapshot = self._store, installation.snapshot
        generations = self._generations_in_use
        store.replace(generations.open(installation.generation))
        if (store.applied_index, store.applied_term) != (snapshot.index, snapshot.term):
            raise StorageError(
                f"the snapshot of entry {snapshot.index} holds entry {store.applied_index}"
            )
        with store.read() as view:
            alarms, leases, members = view.alarms(), list(view.leases()), members_of(view)
        self._applier = Applier(alarms)
        self.on_applied(snapshot.index)
        compacted = store.physically_compacted
        self._deliver(Restored(store.revision, snapshot.index, compacted, leases, alarms, members))

    def _apply_batch(self, entries: Sequence[Entry]) -> None:
        started = time.perf_counter()
        answers: list[tuple[int, Message | RequestError]] = []
        events: list[Event] = []
        effects: list[Effect] = []
        with self._store.write() as batch:
            for entry in entries:
                if entry.kind is EntryKind.CONF_CHANGE:
                    command_id, applied = apply_change(batch, ConfChange.decode(entry.data))
                    answers.append((command_id, applied.response))
                    effects.extend(applied.effects)
                elif entry.data:
                    command = Command.FromString(entry.data)
                    applied = self._applier.apply(batch, command, entry.term)
                    answers.append((command.id, applied.response))
                    events.extend(applied.events)
                    effects.extend(applied.effects)
                    self.txns_total += command.HasField("txn")
            batch.set_applied(entries[-1].index, entries[-1].term)
            committing = time.perf_counter()
        ended = time.perf_counter()
        revision, index = self._store.revision, entries[-1].index
        self.on_applied(index)
        self._deliver(BatchOutcome(revision, index, answers, events, effects))
        puts = sum(event.kind is EventKind.PUT for event in events)
        self.puts_total += puts
        self.deletions_total += len(events) - puts
        self._observe(BatchTiming(len(entries), ended - started, ended - committing))
