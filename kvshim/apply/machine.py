"""The state machine that the replicated log drives: one thread, one SQLite transaction a batch.

The log hands over durable, committed entries; this thread applies as many as wait in one
transaction, with `applied_index` inside, and only after its COMMIT hands answers and events to the
event loop. Between batches it gives the store a slice of time for compaction and checkpoints.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from kvshim.apply.dispatch import Applier
from kvshim.apply.members import apply_change, membership_of
from kvshim.apply.outcome import BatchOutcome, Effect
from kvshim.errors import RequestError
from kvshim.mvcc.events import Event
from kvshim.mvcc.store import Store
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.types import EventKind
from raft.interface import ConfChange, Entry, EntryKind, Index, Membership

BATCH_ENTRIES_MAX = 512
"""Entries in one transaction: bounds how long answers of its first command wait."""

STOP_TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """How long a batch took, and the COMMIT within it, in seconds."""

    entries: int
    seconds: float
    commit_seconds: float


class ApplyMachine:
    """Implements `raft.interface.StateMachine` on the store.

    `deliver`, `on_fatal` and `observe` are called on the apply thread. The totals count what was
    applied since the start, and may be read anywhere.
    """

    def __init__(
        self,
        store: Store,
        deliver: Callable[[BatchOutcome], None],
        on_fatal: Callable[[BaseException], None],
        observe: Callable[[BatchTiming], None],
    ) -> None:
        self._store = store
        self._deliver = deliver
        self._on_fatal = on_fatal
        self._observe = observe
        with store.read() as view:
            self._applier = Applier(view.alarms())
        self._queue: deque[Entry] = deque()
        self._pending_bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._woken = False
        self.on_applied: Callable[[Index], None] = lambda _: None
        """Called on the apply thread when a batch is committed."""
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
            while (batch := self._take(more_upkeep)) is not None:
                if batch:
                    self._apply_batch(batch)
                more_upkeep = self._store.between_batches()
        except BaseException as error:
            self._on_fatal(error)

    def _take(self, more_upkeep: bool) -> list[Entry] | None:  # noqa: FBT001
        """The entries of the next batch; empty when upkeep should go on, None to end."""
        with self._changed:
            if not (self._queue or more_upkeep or self._stopping or self._woken):
                self._changed.wait()
            self._woken = False
            if self._stopping and not self._queue:
                return None
            taken = min(len(self._queue), BATCH_ENTRIES_MAX)
            batch = [self._queue.popleft() for _ in range(taken)]
            self._pending_bytes -= sum(len(entry.data) for entry in batch)
            return batch

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
