"""A whole kv.db as one file: written from one moment of the store, and looked at when it came.

Copying is SQLite's backup in a single step inside the caller's read transaction. A stepwise one
under writes begins anew for ever, and `VACUUM INTO` cannot join a transaction of ours. 258 MB took
0.6-0.9 s with an fsync, and `VACUUM INTO` 0.8 s; neither holds the GIL. Writers go on.
Any thread; connections of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import apsw

from kvshim.backend.files import remove_database, side_files, sync
from kvshim.backend.opening import examine
from kvshim.backend.options import BackendOptions
from kvshim.backend.session import Session, open_writer, storage_error
from kvshim.errors import StartupError, StorageError

_T = TypeVar("_T")

_ALL_PAGES: Final = -1


def copy_database(source: apsw.Connection, path: Path, vfs: str | None) -> None:
    """Write what `source`, which is in a read transaction, sees to a new file, which is not synced.

    Raises `apsw.Error`, `OSError`; then the file is gone, unless it was there before.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        target = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
        try:
            # A copy that is cut off is thrown away: it needs no journal, and no sync on its way.
            for pragma, value in (("journal_mode", "OFF"), ("synchronous", "OFF")):
                target.pragma(pragma, value)
            with target.backup("main", source, "main") as backup:
                backup.step(_ALL_PAGES)
        finally:
            target.close()
    except BaseException:
        remove_database(path)
        raise


def check_copy(path: Path, options: BackendOptions, inside: Callable[[Session], _T]) -> _T:
    """Make sure that a file is a whole kv.db of a known format, and durable; what `inside` reads.

    Afterwards it is complete in itself. Raises `StorageError`.
    """
    try:
        session = open_writer(path, options.vfs, options.page_cache_bytes)
        try:
            session.db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            if examine(path, session.db):
                raise StorageError(f"{path} is an empty database")
            if (verdict := session.db.pragma("quick_check")) != "ok":
                raise StorageError(f"{path} is corrupt: {verdict}")
            session.db.pragma("journal_mode", "WAL")
            found = inside(session)
        finally:
            session.close()
        if any(side.exists() for side in side_files(path)):
            raise StorageError(f"{path} is in use by another program")
        sync(path)
    except apsw.Error as error:
        raise storage_error(error) from error
    except (StartupError, OSError) as error:
        raise StorageError(f"cannot use {path}: {error}") from error
    return found
