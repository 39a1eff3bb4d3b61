"""The store: snapshots for readers, one batch at a time for the apply thread.

A snapshot of another member may take the database's place while everything runs: new reads then
use the new one, reads under way end on the old one, and the last of them lets it go.

`revision`, `compact_revision` and `applied_index` change only at the end of the batch that made
them, and may be read from any thread: a read that begins afterwards finds what they speak of.
`write`, `between_batches` and `replace` are for apply.
"""

from __future__ import annotations

import threading
from binascii import crc32
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from kvshim.backend import schema
from kvshim.backend.backend import Backend
from kvshim.backend.ids import REVISION_MAX
from kvshim.backend.session import Session
from kvshim.errors import Compacted, CorruptStore, FutureRevision, StorageError
from kvshim.mvcc.compaction import Compaction
from kvshim.mvcc.counts import CountCache
from kvshim.mvcc.generation import Generation
from kvshim.mvcc.hashing import CompactionHashes
from kvshim.mvcc.pins import Pins
from kvshim.mvcc.records import KeyValueHash, LeaseRecord
from kvshim.mvcc.txn import WriteTxn
from kvshim.mvcc.view import U32, U64, ReadView
from kvshim.types import LeaseID, Revision

__all__ = ["Snapshot", "Store", "WriteBatch", "WriteTxn"]


_T = TypeVar("_T")

REVISIONS_SKIPPED: Final = 1_000_000_000
"""More than can have been given out beyond what a restored store knows of; etcd's manual has the
same number for restored clusters."""


class Store:
    """The multi-version store on the kv.db that is current."""

    def __init__(self, backend: Backend) -> None:
        """Raises `StorageError` when the database cannot be read."""
        self.counts = CountCache()
        self.pins = Pins()
        self.on_corrupt: Callable[[CorruptStore], object] | None = None
        """Called on any thread when a read found the file damaged; the read fails all the same."""
        self._lock = threading.Lock()
        self._retirements: list[threading.Thread] = []
        backend.checkpointer.on_tick = self.pins.expire
        self._use(backend, None)

    def _use(self, backend: Backend, on_compacted: Callable[[Revision], None] | None) -> None:
        """Pins stay right: the history is the same."""
        state = backend.writer.one(schema.READ_STATE)
        assert state is not None
        backend.start(state[2])
        hashes = CompactionHashes()
        self._compaction = Compaction(
            backend, self.pins, hashes, finished=state[4], target=state[5], cursor=state[6]
        )
        self._compaction.on_finished = on_compacted
        with self._lock:
            self._generation = Generation(backend, hashes)
        # Whoever sees these finds them in what is read from now on.
        self.compact_revision = Revision(state[1])
        self.revision = Revision(state[0])
        self.applied_term = int(state[3])
        self.applied_index = int(state[2])

    def replace(self, backend: Backend) -> None:
        """Go on from another database, a later state of the same history; between two batches.

        Callbacks are carried over. The old database is closed and removed behind the last read.
        """
        old = self._generation
        backend.take_over(old.backend)
        self.counts.clear()  # the old database may have been a damaged one
        self._use(backend, self.on_compacted)
        retirement = threading.Thread(target=old.retire, name="retire", daemon=True)
        retirement.start()
        self._retirements = [thread for thread in self._retirements if thread.is_alive()]
        self._retirements.append(retirement)

    def close(self) -> None:
        """End everything; all reads have ended."""
        for thread in self._retirements:
            thread.join()
        self.backend.close()

    def compaction_hashes(self) -> list[KeyValueHash]:
        """What the newest compactions hashed, oldest first."""
        return self._generation.hashes.all()

    def enter(self) -> Generation:
        """The current database, kept open until `Generation.leave`."""
        with self._lock:
            self._generation.enter()
            return self._generation

    @property
    def backend(self) -> Backend:
        """The current database: for one look, not to be kept."""
        return self._generation.backend

    def copy(self, path: Path, inside: Callable[[ReadView], _T]) -> tuple[int, int, _T]:
        """Write the store as of one moment to a new file; any thread. Raises `StorageError`.

        Returns the applied index and term in it, and what `inside` reads of it.
        """

        def read(session: Session) -> tuple[int, int, _T]:
            return read_copied(session, inside)

        generation = self.enter()
        try:
            return generation.backend.copy(path, read)
        finally:
            generation.leave()

    @property
    def physically_compacted(self) -> Revision:
        """The last compaction whose dead versions are all gone."""
        return self._compaction.finished

    @property
    def on_compacted(self) -> Callable[[Revision], None] | None:
        """Called on the apply thread with each revision whose compaction has physically ended."""
        return self._compaction.on_finished

    @on_compacted.setter
    def on_compacted(self, callback: Callable[[Revision], None] | None) -> None:
        self._compaction.on_finished = callback

    @property
    def on_work(self) -> Callable[[], None] | None:
        """Called on any thread when `between_batches`, which had no more work, has some again."""
        return self.pins.on_release

    @on_work.setter
    def on_work(self, callback: Callable[[], None] | None) -> None:
        self.pins.on_release = callback

    def durable_index(self) -> int:
        """The applied index that survives a power cut; any thread."""
        return self.backend.durable_index()

    def read(self) -> Snapshot:
        """A context manager that gives a `ReadView`; waits while all readers are in use."""
        return Snapshot(self)

    def read_short(self) -> ShortSnapshot:
        """The same for reads of microseconds on the event loop: it does not wait for readers."""
        return ShortSnapshot(self)

    def write(self, *, stays_open: bool = False) -> WriteBatch:
        """A context manager: at its end all reads see what it did. Apply thread.

        `stays_open`: it is short, and its transaction may go on in the next one like it.
        """
        return WriteBatch(self, stays_open=stays_open)

    @property
    def is_open(self) -> bool:
        """Has a batch left something that is not committed? Any thread."""
        return self.backend.is_open

    def settle(self) -> None:
        """Commit it, as reads do by themselves. Any thread; raises `StorageError`."""
        self.backend.settle()

    def commit_seconds(self) -> list[float]:
        """How long each COMMIT took since this was last asked. Apply thread."""
        return self.backend.commit_seconds()

    @property
    def may_write_now(self) -> bool:
        """Would a batch begin without waiting for a checkpoint? Any thread."""
        return self.backend.may_write_now

    def compactions_committed(self, compactions: list[tuple[Revision, Revision]]) -> None:
        """Logical compactions, each with the one before it; called by the batch that made them."""
        if compactions:
            self._compaction.newest = compactions[-1]

    def between_batches(self) -> bool:
        """Spend a few milliseconds on upkeep; True if more waits. Apply thread."""
        return self._compaction.run_slice(self.revision, self.compact_revision)


class Snapshot:
    """One read transaction on a pooled connection."""

    __slots__ = ("_generation", "_session", "_store", "_ticket")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._generation: Generation | None = None
        self._session: Session | None = None
        self._ticket = 0

    def __enter__(self) -> ReadView:
        generation = self._generation = self._store.enter()
        try:
            session, self._ticket = self._begin(generation.backend)
        except BaseException:
            generation.leave()
            raise
        self._session = session
        try:
            # The first statement takes the snapshot, so everything later agrees with this row.
            state = session.one(schema.READ_STATE)
            assert state is not None
        except BaseException:
            self._finish()
            raise
        return ReadView(
            session,
            state[0],
            state[1],
            self._store.counts,
            walked_id=state[6],
            known_hash=generation.hashes.get,
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._finish()
        finally:
            if isinstance(error, CorruptStore) and self._store.on_corrupt is not None:
                self._store.on_corrupt(error)

    def _finish(self) -> None:
        assert self._session is not None
        assert self._generation is not None
        try:
            self._end(self._generation.backend, self._session, self._ticket)
        finally:
            self._generation.leave()

    def _begin(self, backend: Backend) -> tuple[Session, int]:
        return backend.begin_read()

    def _end(self, backend: Backend, session: Session, ticket: int) -> None:
        backend.end_read(session, ticket)


class ShortSnapshot(Snapshot):
    """One read transaction on the connection kept for short reads."""

    __slots__ = ()

    def _begin(self, backend: Backend) -> tuple[Session, int]:
        return backend.begin_short_read(), 0

    def _end(self, backend: Backend, session: Session, ticket: int) -> None:
        backend.end_short_read(session)


class WriteBatch(ReadView):
    """A transaction of many commands. Leaving its `with` block ends it, or rolls it back."""

    __slots__ = (
        "_applied_index",
        "_applied_term",
        "_compactions",
        "_stays_open",
        "_store",
        "written",
    )

    def __init__(self, store: Store, *, stays_open: bool) -> None:
        super().__init__(store.backend.writer, store.revision, store.compact_revision, None)
        self._store = store
        self._stays_open = stays_open
        self._applied_index = store.applied_index
        self._applied_term = store.applied_term
        self._compactions: list[tuple[Revision, Revision]] = []
        self.written: list[int] = []
        """32 bits of everything that was written, in order: versions by their checksums."""

    def __enter__(self) -> WriteBatch:
        self._store.backend.begin_write(stays_open=self._stays_open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._commit()
        else:
            self._store.backend.rollback()

    def _commit(self) -> None:
        store = self._store
        state = (self.revision, self.compact_revision, self._applied_index, self._applied_term)
        try:
            self._session.run(schema.WRITE_STATE, state)
        except BaseException:
            store.backend.rollback()
            raise
        store.backend.commit(self._applied_index)
        store.applied_index = self._applied_index
        store.applied_term = self._applied_term
        store.compact_revision = self.compact_revision
        store.revision = self.revision
        store.compactions_committed(self._compactions)

    def begin(self) -> WriteTxn:
        """Start a command's changes."""
        return WriteTxn(self)

    def advance(self, revision: Revision) -> None:
        """A command ended at this revision; called by its `WriteTxn`."""
        self.revision = revision

    def compact(self, revision: int) -> None:
        """Forget what was replaced up to a revision, at once for every reader.

        Raises `Compacted` or `FutureRevision`, as etcd does; Compact(0) succeeds once.
        """
        if revision <= self.compact_revision:
            raise Compacted
        if revision > self.revision:
            raise FutureRevision
        self._compactions.append((self.compact_revision, Revision(revision)))
        self.compact_revision = Revision(revision)

    def skip(self, revisions: int) -> None:
        """Leave out so many revisions, and mark all that comes before as compacted.

        For a store that may have gone back in time: no revision is given out twice, and whoever
        watches from before is told that it is compacted, and lists anew. Raises `StorageError`.
        """
        revision = Revision(self.revision + revisions)
        if revision > REVISION_MAX:
            raise StorageError(f"there are no revisions left above {self.revision}")
        self.advance(revision)
        self.compact(revision)

    def set_applied(self, index: int, term: int) -> None:
        """The log entry after which the store is as this batch leaves it."""
        self._applied_index = index
        self._applied_term = term

    def lease_put(self, lease: LeaseRecord) -> None:
        """Make or change a lease."""
        self._session.run(schema.PUT_LEASE, (lease.id, lease.ttl, lease.remaining_ttl))
        self.written += (lease.id & U32, lease.ttl & U32, lease.remaining_ttl & U32)

    def lease_delete(self, lease: LeaseID) -> None:
        """Forget a lease; its keys are the caller's to delete."""
        self._session.run(schema.DELETE_LEASE, (lease,))
        self.written.append(lease & U32)

    def alarm_put(self, member: int, kind: int) -> None:
        """Raise an alarm."""
        self._session.run(schema.PUT_ALARM, (_signed(member), kind))
        self.written += (member & U32, kind)

    def alarm_delete(self, member: int, kind: int) -> None:
        """Clear an alarm."""
        self._session.run(schema.DELETE_ALARM, (_signed(member), kind))
        self.written += (member & U32, kind)

    def raise_format(self, version: int) -> None:
        """The store is of this cluster version from now on: older programs refuse it."""
        self._session.run(schema.write_format_version(version))
        self.written.append(version)

    def auth_put(self, enabled: int, revision: int) -> None:
        """Switch authentication and move its revision; before users and roles of a command."""
        if self._session.one(schema.HAS_AUTH) is None:
            for statement in schema.CREATE_AUTH:
                self._session.run(statement)
        self._session.run(schema.PUT_AUTH, (enabled, revision))
        self.written += (enabled, revision & U32)

    def auth_user_put(self, name: str, user: bytes | None) -> None:
        """Keep a user, encoded, or with None forget it."""
        self._auth_row(schema.PUT_USER, schema.DELETE_USER, name, user)

    def auth_role_put(self, name: str, role: bytes | None) -> None:
        """Keep a role, encoded, or with None forget it."""
        self._auth_row(schema.PUT_ROLE, schema.DELETE_ROLE, name, role)

    def _auth_row(self, put: str, delete: str, name: str, value: bytes | None) -> None:
        key = name.encode()
        if value is None:
            self._session.run(delete, (key,))
        else:
            self._session.run(put, (key, value))
        self.written += (crc32(key), crc32(value or b""))

    def meta_put(self, name: str, value: bytes) -> None:
        """Keep a named value of the node's own."""
        self._session.run(schema.PUT_META, (name, value))


def read_copied(session: Session, inside: Callable[[ReadView], _T]) -> tuple[int, int, _T]:
    """The applied index and term of a database that is read as a whole, and more of it."""
    state = session.one(schema.READ_STATE)
    assert state is not None
    view = ReadView(session, state[0], state[1], None)
    return state[2], state[3], inside(view)


def _signed(number: int) -> int:
    """A uint64 as SQLite can hold it."""
    return number - U64 if number >= U64 >> 1 else number
