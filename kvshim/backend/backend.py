"""kv.db opened for use: one writing connection, pooled readers, a checkpointer, its sizes.

It knows transactions and files, nothing of keys and revisions: those are `kvshim.mvcc`'s. The
writing connection belongs to the apply thread; everything else may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import apsw

from kvshim.backend.checkpointer import Checkpointer
from kvshim.backend.copying import copy_database
from kvshim.backend.files import remove_database
from kvshim.backend.gate import Gate
from kvshim.backend.opening import open_or_create
from kvshim.backend.options import BackendOptions
from kvshim.backend.readers import ReaderPool, ShortReaders
from kvshim.backend.session import Session, open_reader, open_writer, storage_error
from kvshim.backend.writer import Writer
from kvshim.errors import StartupError, StorageError

__all__ = ["Backend", "BackendOptions", "Sizes"]

_T = TypeVar("_T")

VACUUM_PAGES: Final = 64
"""Pages given back to the disk in one slice."""

VACUUM_SLACK: Final = 0.05
"""The part of the file that may stay free, to be used again rather than given back."""

VACUUM_SLACK_PAGES_MIN: Final = 256


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of kv.db, of it in use, free inside it, and of its WAL file."""

    db_bytes: int
    db_bytes_in_use: int
    free_bytes: int
    wal_bytes: int


class Backend:
    """See the module's text."""

    def __init__(self, path: Path, options: BackendOptions, writer: Session) -> None:
        self.path = path
        self.options = options
        self.gate = Gate()
        self._writer = Writer(writer, self.gate, self._failed)
        self.failure: StorageError | None = None
        self.on_failure: Callable[[StorageError], None] | None = None
        self._wal_path = path.with_name(path.name + "-wal")
        self._readers = ReaderPool(self._open_reader, options.reader_connections)
        self._short_readers = ShortReaders(self._open_reader)
        checkpoint_session = open_writer(path, options.vfs, options.page_cache_bytes)
        self._checkpoint_session = checkpoint_session
        self.checkpointer = Checkpointer(
            checkpoint_session, self.gate, options, self._writer, self._failed
        )
        writer.db.pragma("journal_size_limit", options.wal_bytes_max)
        writer.db.set_wal_hook(self._on_commit)

    @classmethod
    def open(cls, path: Path, options: BackendOptions | None = None) -> Backend:
        """Open or make the database. Raises `StartupError`; then the data is as it was."""
        options = options if options is not None else BackendOptions()
        writer = open_or_create(path, options)
        try:
            return cls(path, options, writer)
        except apsw.Error as error:
            writer.close()
            raise StartupError(f"cannot open {path}: {storage_error(error)}") from error
        except StorageError as error:
            writer.close()
            raise StartupError(f"cannot open {path}: {error}") from error

    def start(self, applied_index: int) -> None:
        """Make what is stored durable and start checkpointing. Called once, by the store."""
        self._writer.applied_index = self._writer.latest_index = applied_index
        self.checkpointer.truncate()
        self.checkpointer.start()

    def close(self) -> None:
        """Stop the checkpointer, copy the WAL, close every connection."""
        self.checkpointer.stop()
        self._readers.close()
        self._short_readers.close()
        try:
            if self.failure is None and self._writer.lost is None:
                self.checkpointer.truncate()
        finally:
            self._checkpoint_session.close()
            self.writer.close()

    def take_over(self, old: Backend) -> None:
        """Tell from now on whoever was told by the backend whose place this one takes."""
        ours, theirs = self.checkpointer, old.checkpointer
        self.on_failure, old.on_failure = old.on_failure, None
        ours.on_tick, theirs.on_tick = theirs.on_tick, None
        ours.on_checkpoint, theirs.on_checkpoint = theirs.on_checkpoint, None
        ours.on_wal_pinned, theirs.on_wal_pinned = theirs.on_wal_pinned, None
        ours.on_wal_released, theirs.on_wal_released = theirs.on_wal_released, None
        pinned_seconds = theirs.pinned_seconds()
        if pinned_seconds and ours.on_wal_released is not None:
            ours.on_wal_released(pinned_seconds)

    def discard(self) -> None:
        """Close for good a database that another has replaced, and remove its files."""
        self.checkpointer.stop()
        self._readers.close()
        self._short_readers.close()
        self._checkpoint_session.close()
        self.writer.close()
        with suppress(OSError):  # The next start tries again.
            remove_database(self.path)

    def copy(self, path: Path, inside: Callable[[Session], _T]) -> _T:
        """Write the database as of one moment to a new file, which is not synced; any thread.

        `inside` reads what goes with the copy in the same transaction. Raises `StorageError`.
        """
        self._writer.before_read()
        session = self._open_reader()
        ticket = self.gate.enter_copy()
        try:
            session.run("BEGIN")
            found = inside(session)
            copy_database(session.db, path, self.options.vfs)
            session.run("COMMIT")
        except apsw.Error as error:
            raise storage_error(error) from error
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
        finally:
            session.close()
            self.gate.leave_copy(ticket)
            self.checkpointer.wake()
        return found

    # --- transactions ------------------------------------------------------------------------

    def begin_read(self) -> tuple[Session, int]:
        """A pooled connection inside a transaction, whose snapshot its first statement takes."""
        self._writer.before_read()
        session = self._readers.take()
        ticket = self.gate.enter_read()
        try:
            session.run("BEGIN")
        except BaseException:
            self.gate.leave_read(ticket)
            self._readers.discard(session)
            raise
        return session, ticket

    def end_read(self, session: Session, ticket: int) -> None:
        """End a transaction that `begin_read` began."""
        try:
            session.run("COMMIT")
        except BaseException:
            self._readers.discard(session)
            raise
        else:
            self._readers.give_back(session)
        finally:
            self.gate.leave_read(ticket)

    def begin_short_read(self) -> Session:
        """For reads of microseconds on the event loop: neither readers nor checkpoints delay it.

        The gate does not hear of it: a checkpoint that meets one is there again in a moment.
        """
        self._writer.before_read()
        session = self._short_readers.take()
        try:
            session.run("BEGIN")
        except BaseException:
            session.close()
            raise
        return session

    def end_short_read(self, session: Session) -> None:
        """End a transaction that `begin_short_read` began."""
        try:
            session.run("COMMIT")
        except BaseException:
            session.close()
            raise
        self._short_readers.give_back(session)

    @property
    def writer(self) -> Session:
        """The writing connection."""
        return self._writer.session

    @property
    def may_write_now(self) -> bool:
        """True while no checkpoint needs the writer to wait."""
        return self.checkpointer.has_room() and not self.gate.closed

    def begin_write(self, *, stays_open: bool = False) -> Session:
        """The writing connection in a transaction; waits for a checkpoint that needs a pause.

        `stays_open`: what follows is short, and may share a transaction with others like it.
        """
        if self.failure is not None:
            raise self.failure
        self.checkpointer.wait_for_room()
        return self._writer.begin(stays_open=stays_open)

    def commit(self, applied_index: int) -> None:
        """Afterwards `applied_index` is what every read sees."""
        self._writer.end(applied_index)

    def commit_upkeep(self) -> None:
        """Commit a transaction that applied no log entry."""
        self._writer.end(self._writer.latest_index)

    def rollback(self) -> None:
        """Give up the transaction."""
        self._writer.rollback()

    @property
    def is_open(self) -> bool:
        """Has a batch left its transaction open?"""
        return self._writer.is_open

    def settle(self) -> None:
        """Commit what batches have left open, as whoever reads on the writing connection must."""
        self._writer.settle()

    def commit_seconds(self) -> list[float]:
        """How long each COMMIT took since this was last asked."""
        return self._writer.commit_seconds()

    # --- space -------------------------------------------------------------------------------

    @property
    def bytes_in_use(self) -> int:
        """Bytes of kv.db that hold data, as of the last batch; costs no system call."""
        return self._writer.bytes_in_use

    def sizes(self) -> Sizes:
        """As of the last batch."""
        try:
            wal_bytes = self._wal_path.stat().st_size
        except FileNotFoundError:
            wal_bytes = 0
        pages, free, size = self._writer.pages, self._writer.free_pages, self._writer.page_size
        return Sizes(pages * size, (pages - free) * size, free * size, wal_bytes)

    def has_space_to_return(self) -> bool:
        """True when more pages are free than are worth keeping."""
        slack = max(VACUUM_SLACK_PAGES_MIN, int(self._writer.pages * VACUUM_SLACK))
        return self._writer.free_pages > slack

    def return_space(self) -> None:
        """Move some pages out of the end of the file, inside the writer's transaction."""
        self.writer.run(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    # --- durability --------------------------------------------------------------------------

    def durable_index(self) -> int:
        """The applied index that survives a power cut."""
        return self.checkpointer.durable_index

    def pinned_seconds(self) -> float:
        """For how long an outside reader has kept the WAL from being reset; 0 when none does."""
        return self.checkpointer.pinned_seconds()

    def _open_reader(self) -> Session:
        try:
            return open_reader(self.path, self.options.vfs, self.options.page_cache_bytes)
        except apsw.Error as error:
            raise storage_error(error) from error

    def _on_commit(self, _db: apsw.Connection, _name: str, wal_frames: int) -> int:
        self.checkpointer.committed(wal_frames)
        return apsw.SQLITE_OK

    def _failed(self, error: StorageError) -> None:
        self.failure = error
        if self.on_failure is not None:
            self.on_failure(error)
