"""The state machine that the replicated log drives: it applies entries in batches.

The log hands over durable, committed entries. A thread applies as many as wait in one
transaction, with `applied_index` inside, and only at its end hands answers and events to the event
loop. Short batches may share a transaction (`kvshim.backend.writer`). Between batches it gives the
store a slice of time for compaction and checkpoints. A snapshot that the log wants takes the
store's place between two batches.

While that thread rests, the log's own applies what takes no longer than a moment: to wake another
for it took a tenth of a write's CPU (ADR 0009). Where syncing takes longer than applying, both go
on side by side on their two threads. What is said elsewhere of the apply thread is true of the one
that applies.

A store that is damaged, or differs from the others', is replaced too: applying is held, what comes
waits, and the leader's store takes this one's place (`kvshim.server.resync`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import Message

from kvshim.apply.auth import load_auth
from kvshim.apply.dispatch import Applier
from kvshim.apply.members import apply_change, members_of, membership_of
from kvshim.apply.outcome import BatchOutcome, Effect, Outcome, Restored
from kvshim.apply.rolling import RollingHash
from kvshim.apply.short import command_of, short_commands
from kvshim.apply.snapshots import Generations
from kvshim.auth.book import AuthBook
from kvshim.auth.state import AuthState
from kvshim.errors import CorruptStore, RequestError, StorageError
from kvshim.mvcc.events import Event
from kvshim.mvcc.scrub import first_fault
from kvshim.mvcc.store import Store, read_copied
from kvshim.mvcc.view import ReadView
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

HOLD_SECONDS_MAX = 30.0
"""How long a batch may take before the store counts as busy."""

INSTALLED_POLL_SECONDS = 0.5

FAST_SYNC_SECONDS = 0.002
"""While the log takes longer to sync, the next batch is written while this one is applied."""

SHORT_SECONDS = 0.02
"""While batches take longer, they do not keep the log from its heartbeats."""


class BatchTiming(NamedTuple):
    """How long a batch took, and each COMMIT since the one before, in seconds."""

    entries: int
    seconds: float
    commit_seconds: list[float]


@dataclass(frozen=True, slots=True)
class _Installation:
    generation: int
    snapshot: SnapshotMeta


class ApplyMachine:
    """Implements `raft.interface.StateMachine` on the store.

    `deliver`, `on_fatal` and `observe` are called on the thread that applies: the apply thread, or
    the log's. The totals count what was applied since the start, and may be read anywhere. Without
    `generations` it takes no snapshots.
    """

    def __init__(
        self,
        store: Store,
        deliver: Callable[[Outcome], None],
        on_fatal: Callable[[BaseException], None],
        observe: Callable[[BatchTiming], None],
        generations: Generations | None = None,
        *,
        sync_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`sync_seconds` tells, on the log's thread, how long its last write took."""
        self._store = store
        self._deliver = deliver
        self._on_fatal = on_fatal
        self._observe = observe
        self._generations = generations
        self.auth = AuthBook(AuthState())
        with store.read() as view:
            self._applier = Applier.of(view, self.auth)
        self._queue: deque[Entry] = deque()
        self._pending_bytes = 0
        self._installation: _Installation | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._woken = False
        self._held = False
        self._at_rest = False
        self._idle = False
        self._lent = False
        self._sync_seconds = sync_seconds
        self._batch_seconds = 0.0
        self._installing = False
        self.rolling = RollingHash(store.applied_index)
        self.on_applied: Callable[[Index], None] = lambda _: None
        """Called on the apply thread when a batch is applied or a snapshot in use."""
        self.on_corrupt: Callable[[CorruptStore], bool] = lambda _: False
        """Called on the apply thread when the file is damaged: False to end, True to be held."""
        self.puts_total = 0
        self.deletions_total = 0
        self.txns_total = 0
        self._worker = threading.Thread(target=self._run, name="apply", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def stop(self) -> None:
        """Apply everything handed over, then end the thread. Blocks; call it off the loop."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(STOP_TIMEOUT_SECONDS)

    def wake(self) -> None:
        """Let the store use an idle moment, such as for a checkpoint that waits for one."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def hold(self) -> Index:
        """Leave the store alone until `release` or `install`; entries wait. Blocks for a batch.

        Returns the last index applied.
        """
        with self._changed:
            self._held = True
            self._changed.notify_all()
            if not self._changed.wait_for(
                lambda: self._at_rest or not self._worker.is_alive(), HOLD_SECONDS_MAX
            ):
                self._held = False
                raise StorageError("the store is busy: try again")
        return self.applied_index()

    def release(self) -> None:
        """Apply again."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def wait_installed(self) -> None:
        """Block until no `install` waits any more, or applying has ended."""
        with self._changed:
            while self._installing and self._worker.is_alive():
                self._changed.wait(INSTALLED_POLL_SECONDS)

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries or queue them; how many there may be is the log's to bound."""
        if (commands := self._claim(entries)) is not None:
            self._apply_here(entries, commands)
            return
        with self._changed:
            self._queue.extend(entries)
            self._pending_bytes += sum(len(entry.data) for entry in entries)
            self._changed.notify_all()

    def _claim(self, entries: Sequence[Entry]) -> list[Command | None] | None:
        """The commands of entries that this thread may apply at once, else None."""
        fast = self._sync_seconds() < FAST_SYNC_SECONDS and self._batch_seconds < SHORT_SECONDS
        if not self._idle or not fast or not self._store.may_write_now:
            return None
        commands = short_commands(entries)
        if commands is None:
            return None
        with self._changed:
            if not self._idle or self._has_work:
                return None
            self._lent = True
        return commands

    def _apply_here(self, entries: Sequence[Entry], commands: list[Command | None]) -> None:
        failed = False
        try:
            self._try_batch(entries, commands)
        except BaseException as error:
            failed = True
            self._on_fatal(error)
        with self._changed:
            self._lent = False
            self._stopping = self._stopping or failed
            if self._has_work:  # The thread, woken meanwhile, waits for this.
                self._changed.notify_all()

    @property
    def _has_work(self) -> bool:
        """Is there anything that the thread should not rest for? Under `_changed`."""
        waits = bool(self._queue) or self._woken or self._installation is not None
        return waits or self._held or self._stopping

    def pending_bytes(self) -> int:
        """Bytes of entries handed over and not yet taken up."""
        return self._pending_bytes

    def membership(self) -> Membership:
        """The members as of `applied_index`."""
        with self._store.read() as view:
            return membership_of(view)

    def applied_index(self) -> Index:
        """The last index whose effects every read of the store sees."""
        return Index(self._store.applied_index)

    def durable_index(self) -> Index:
        """The last index whose effects survive a power cut."""
        return Index(self._store.durable_index())

    def _run(self) -> None:
        try:
            more_upkeep = True
            while (work := self._take(more_upkeep)) is not None:
                more_upkeep = self._do(work)
        except BaseException as error:
            self._on_fatal(error)

    def turn(self, entries_max: int = BATCH_ENTRIES_MAX) -> bool:
        """Do at once what the thread would do next, if it was never started; True if more waits."""
        work = self._take(more_upkeep=True, entries_max=entries_max)
        more_upkeep = work is not None and self._do(work)
        return more_upkeep or bool(self._queue) or self._installation is not None

    def _do(self, work: list[Entry] | _Installation) -> bool:
        if isinstance(work, _Installation):
            self._go_on_from(work)
            return True
        return self._work(work)

    def _work(self, entries: list[Entry]) -> bool:
        """Apply these, or nothing, and look after the store; True if more of that waits."""
        if entries and not self._try_batch(entries, short_commands(entries)):
            return True
        try:
            return self._store.between_batches()
        except CorruptStore as error:
            self._hold_damaged(error, [])
            return True

    def _try_batch(self, entries: Sequence[Entry], short: Sequence[Command | None] | None) -> bool:
        """Apply these; if the store turns out to be damaged, hold applying and return False.

        `short` are their commands, when they are a short batch.
        """
        applied = self._store.applied_index
        try:
            self._apply_batch(entries, short)
        except CorruptStore as error:
            self._hold_damaged(error, entries if self._store.applied_index == applied else [])
            return False
        return True

    def _hold_damaged(self, error: CorruptStore, unapplied: Sequence[Entry]) -> None:
        """Leave a damaged store alone; what is not applied waits for the one that replaces it."""
        if not self.on_corrupt(error):
            raise StorageError(f"{error}: restore a backup of this, the only member") from error
        with self._changed:
            self._held = True
            self._queue.extendleft(reversed(unapplied))
            self._pending_bytes += sum(len(entry.data) for entry in unapplied)
        with self._store.read() as view:
            self._applier = Applier.of(view, self.auth)
        self.rolling.begin(self._store.applied_index)

    def copy(self, path: Path) -> SnapshotMeta:
        """Write the store as of one moment to a new file. Any thread; raises `LogError`."""
        try:
            index, term, members = self._store.copy(path, membership_of)
        except StorageError as error:
            raise LogError(str(error)) from error
        return SnapshotMeta(Index(index), Term(term), members)

    def accept(self, path: Path, snapshot: SnapshotMeta) -> int:
        """Make a snapshot's file a generation that is not yet in use. Raises `LogError`.

        While applying is held a store comes that is to replace a damaged one: then every row is
        read, so that no damage comes with it.
        """
        check = refuse_damage if self._held else None
        return self._generations_in_use.accept(path, snapshot, self.applied_index(), check)

    def install(self, generation: int, snapshot: SnapshotMeta) -> None:
        """Go on from an accepted generation, which holds what was queued up to its index."""
        with self._changed:
            while self._queue and self._queue[0].index <= snapshot.index:
                self._pending_bytes -= len(self._queue.popleft().data)
            self._installation = _Installation(generation, snapshot)
            self._installing = True
            self._changed.notify_all()

    @property
    def _generations_in_use(self) -> Generations:
        if self._generations is None:
            raise LogError("this store takes no snapshots")
        return self._generations

    def _take(
        self,
        more_upkeep: bool,  # noqa: FBT001
        entries_max: int = BATCH_ENTRIES_MAX,
    ) -> list[Entry] | _Installation | None:
        """What comes next; no entries when upkeep should go on, None to end."""
        with self._changed:
            if not more_upkeep and not self._has_work:
                self._idle = True
                self._changed.wait()
                while self._lent:
                    self._changed.wait()
                self._idle = False
            if self._held:
                self._rest()
            self._woken = False
            if self._installation is not None:  # It is older than what is queued.
                installation, self._installation = self._installation, None
                self._held = False
                return installation
            if self._stopping and (self._held or not self._queue):
                return None
            taken = min(len(self._queue), entries_max)
            batch = [self._queue.popleft() for _ in range(taken)]
            self._pending_bytes -= sum(len(entry.data) for entry in batch)
            return batch

    def _rest(self) -> None:
        self._at_rest = True
        self._changed.notify_all()
        while self._held and self._installation is None and not self._stopping:
            self._changed.wait()
        self._at_rest = False

    def _go_on_from(self, installation: _Installation) -> None:
        store, snapshot = self._store, installation.snapshot
        generations = self._generations_in_use
        backend = generations.open(installation.generation)
        # Before the store says that these entries are applied: who waits for them asks it.
        _, _, self.auth.state = read_copied(backend.writer, load_auth)
        store.replace(backend)
        if (store.applied_index, store.applied_term) != (snapshot.index, snapshot.term):
            raise StorageError(
                f"the snapshot of entry {snapshot.index} holds entry {store.applied_index}"
            )
        with store.read() as view:
            alarms, leases, members = view.alarms(), list(view.leases()), members_of(view)
            version = view.format_version
            self._applier = Applier.of(view, self.auth)
        self.rolling.begin(snapshot.index)
        self.on_applied(snapshot.index)
        with self._changed:
            self._installing = self._installation is not None
            self._changed.notify_all()
        compacted = store.physically_compacted
        self._deliver(
            Restored(store.revision, snapshot.index, compacted, leases, alarms, members, version)
        )

    def _apply_batch(
        self, entries: Sequence[Entry], short: Sequence[Command | None] | None
    ) -> None:
        started = time.perf_counter()
        answers: list[tuple[int, Message | RequestError]] = []
        events: list[Event] = []
        effects: list[Effect] = []
        rolling = self.rolling
        commands = map(command_of, entries) if short is None else short
        with self._store.write(stays_open=short is not None) as batch:
            for entry, command in zip(entries, commands, strict=True):
                if entry.kind is EntryKind.CONF_CHANGE:
                    command_id, applied = apply_change(batch, ConfChange.decode(entry.data))
                    answers.append((command_id, applied.response))
                    effects.extend(applied.effects)
                elif command is not None:
                    applied = self._applier.apply(batch, command, entry.term, entry.index)
                    answers.append((command.id, applied.response))
                    events.extend(applied.events)
                    effects.extend(applied.effects)
                    self.txns_total += command.HasField("txn")
                rolling.applied(entry.index, batch)
            rolling.fold(batch)
            batch.set_applied(entries[-1].index, entries[-1].term)
            self._applier.auth.publish()
        self._batch_seconds = time.perf_counter() - started
        revision, index = self._store.revision, entries[-1].index
        self.on_applied(index)
        self._deliver(BatchOutcome(revision, index, answers, events, effects))
        puts = sum(event.kind is EventKind.PUT for event in events)
        self.puts_total += puts
        self.deletions_total += len(events) - puts
        commits = self._store.commit_seconds()
        self._observe(BatchTiming(len(entries), self._batch_seconds, commits))


def refuse_damage(view: ReadView) -> None:
    """Raises `StorageError` when a row is not as it was written."""
    fault = first_fault(view)
    if fault is not None:
        raise StorageError(f"the leader's store is damaged at {fault.place}: {fault.reason}")
