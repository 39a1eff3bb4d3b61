"""One connection to kv.db: pragmas, statements, and apsw's errors as ours.

A session is used by one thread at a time. apsw runs a statement only as far as rows are taken, so
every method here runs its statement to the end, except `iterate`, whose rows must all be taken or
whose iterator must be closed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Final

import apsw

from kvshim.errors import CorruptStore, StorageError

Row = tuple[Any, ...]

BUSY_TIMEOUT_MS: Final = 10_000
"""How long a statement waits for a lock: only an outside program can hold one against us."""

READER_LENGTH_MAX: Final = 256 << 20
"""Bytes of one value or one joined chunk on a reading connection; joining more fails instead."""


def storage_error(error: apsw.Error | UnicodeDecodeError) -> StorageError:
    """One sentence for the operator."""
    match error:
        case apsw.FullError():
            return StorageError("the disk that holds the store is full")
        # All that we store is BLOBs and integers: a text that is none is damage too.
        case apsw.CorruptError() | apsw.NotADBError() | UnicodeDecodeError():
            return CorruptStore(f"the store is corrupt: {error}")
        case apsw.BusyError() | apsw.LockedError():
            return StorageError(f"another program keeps the store locked: {error}")
        case _:
            return StorageError(f"the store cannot be used: {error}")


class Session:
    """Statements on one connection. Raises `StorageError` for whatever SQLite cannot do."""

    __slots__ = ("_cursor", "_db")

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        # Statements that are run to their end at once share a cursor: making one for each costs as
        # much as a small statement itself.
        self._cursor = db.cursor()

    @property
    def db(self) -> apsw.Connection:
        """The connection itself, for the backend's own use."""
        return self._db

    def run(self, sql: str, parameters: Row = ()) -> None:
        """Run a statement for its effect."""
        try:
            for _ in self._cursor.execute(sql, parameters):
                pass
        except apsw.Error as error:
            raise storage_error(error) from error

    def many(self, sql: str, rows: Iterable[Row]) -> None:
        """Run a statement once for each row of parameters."""
        try:
            for _ in self._cursor.executemany(sql, rows):
                pass
        except apsw.Error as error:
            raise storage_error(error) from error

    def one(self, sql: str, parameters: Row = ()) -> Row | None:
        """The row of a statement that finds one at most, or None."""
        try:
            rows: list[Row] = self._cursor.execute(sql, parameters).fetchall()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise storage_error(error) from error
        return rows[0] if rows else None

    def all(self, sql: str, parameters: Row = ()) -> list[Row]:
        """All rows."""
        try:
            rows: list[Row] = self._cursor.execute(sql, parameters).fetchall()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise storage_error(error) from error
        return rows

    def iterate(self, sql: str, parameters: Row = ()) -> Generator[Row, None, None]:
        """Rows as they are found."""
        try:
            cursor = self._db.execute(sql, parameters)
            try:
                yield from cursor
            finally:
                cursor.close()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise storage_error(error) from error

    def changes(self) -> int:
        """Rows changed by the last statement."""
        return self._db.changes()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def open_connection(path: Path, flags: int, vfs: str | None, page_cache_bytes: int) -> Session:
    """A connection with the pragmas that every one of ours has. Raises `apsw.Error`."""
    db = apsw.Connection(str(path), flags=flags, vfs=vfs, statementcachesize=128)
    try:
        db.set_busy_timeout(BUSY_TIMEOUT_MS)
        # The checkpointer decides when frames are copied, also at the end (DESIGN, "Storage").
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.wal_autocheckpoint(0)
        for pragma in (
            # Never OFF on any connection: whichever one checkpoints does the fsync.
            "synchronous = NORMAL",
            f"cache_size = -{page_cache_bytes >> 10}",
            "temp_store = MEMORY",
        ):
            db.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        db.close()
        raise
    return Session(db)


def open_reader(path: Path, vfs: str | None, page_cache_bytes: int) -> Session:
    """A read-only connection."""
    session = open_connection(path, apsw.SQLITE_OPEN_READONLY, vfs, page_cache_bytes)
    session.db.limit(apsw.SQLITE_LIMIT_LENGTH, READER_LENGTH_MAX)
    return session


def open_writer(path: Path, vfs: str | None, page_cache_bytes: int) -> Session:
    """A connection that may change the database, which exists."""
    return open_connection(path, apsw.SQLITE_OPEN_READWRITE, vfs, page_cache_bytes)
