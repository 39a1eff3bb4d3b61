"""Opening `raft.db`, telling what is wrong with it, and copying its WAL.

Functions over an apsw connection; whoever owns the connection calls them. Nothing here writes to a
file before `check_format` said that it is ours or empty.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from raft import format as form
from raft.interface import LogError

_STATEMENTS_CACHED: Final = form.ROWS_PER_INSERT + 32
_BUSY_MS_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How the file is used; `vfs` is the name of an apsw VFS, for tests."""

    wal_bytes_max: int = 8 << 20
    vfs: str | None = None


def connect(path: Path, options: LogOptions) -> apsw.Connection:
    """A connection that never checkpoints by itself, not even when it is closed."""
    db = apsw.Connection(str(path), vfs=options.vfs, statementcachesize=_STATEMENTS_CACHED)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.set_busy_timeout(_BUSY_MS_MAX)
    return db


def passive_checkpoint(db: apsw.Connection) -> bool:
    """Copy what can be copied without waiting for anyone; True when that was everything."""
    try:
        in_wal, copied = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.BusyError:
        return False  # another program checkpoints
    return in_wal == copied


class WalCopier:
    """Copies the WAL into the file from a connection of its own, beside the one that appends."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        self._path = path
        try:
            self._db = connect(path, options)
            self._db.execute(form.CONNECTION).fetchall()
        except apsw.Error as error:
            raise describe(error, path) from error

    def copy(self) -> None:
        """One passive checkpoint; waits for nobody, blocks nobody. Raises `LogError`."""
        try:
            passive_checkpoint(self._db)
        except apsw.Error as error:
            raise describe(error, self._path) from error

    def close(self) -> None:
        """Close the connection."""
        close_quietly(self._db)


def create(db: apsw.Connection, path: Path) -> None:
    db.execute(form.SETUP).fetchall()
    db.execute(form.CONNECTION).fetchall()
    with db:
        db.execute(form.CREATE).fetchall()
        db.execute(form.SAVE_STATE, form.LogState().row())
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # SQLite does this for journals, not for the database's own name
    finally:
        os.close(directory)


def close_quietly(db: apsw.Connection | None) -> None:
    if db is None:
        return
    with suppress(apsw.Error):  # the error that led here is the one to tell
        db.close(True)  # noqa: FBT003 - apsw's own signature: close whatever is pending


def check_format(db: apsw.Connection, path: Path) -> int:
    """The version of a log of ours, 0 when the file is still empty; writes nothing."""
    application_id = int(db.pragma("application_id"))
    version = int(db.pragma("user_version"))
    tables = int(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])  # type: ignore[index]
    if application_id == 0 and version == 0 and tables == 0:
        return 0
    if application_id != form.APPLICATION_ID:
        raise LogError(f"{path} is a database of another program: choose another data directory")
    if version > form.FORMAT_VERSION:
        raise LogError(
            f"{path} has format {version}, this program knows formats up to {form.FORMAT_VERSION}:"
            " start a newer version"
        )
    if version < 1:
        raise LogError(f"{path} has no format version: restore it from a backup")
    return version


def describe(error: apsw.Error, path: Path) -> LogError:
    """One sentence for what SQLite could not do."""
    match error:
        case apsw.NotADBError():
            text = f"{path} is not a raft log or its header is damaged: restore it from a backup"
        case apsw.CorruptError():
            text = f"{path} is damaged: restore it from a backup"
        case apsw.FullError():
            text = f"cannot write {path}: the disk is full"
        case apsw.BusyError() | apsw.LockedError():
            text = f"cannot lock {path}: another process uses it"
        case apsw.CantOpenError() | apsw.PermissionsError() | apsw.ReadOnlyError():
            denied = path.exists() and not os.access(path, os.R_OK | os.W_OK)
            denied = denied or not os.access(path.parent, os.R_OK | os.W_OK | os.X_OK)
            text = f"cannot open {path}: {'permission denied' if denied else error}"
        case _:
            text = f"cannot read or write {path}: {error}"
    return LogError(text)
