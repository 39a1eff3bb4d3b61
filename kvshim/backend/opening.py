"""Opening kv.db: make it, or make sure that it is ours, whole and not newer than the program.

What is found is first looked at through a read-only connection that copies nothing back, so that
a file that is refused is left as it was. Used by the thread that starts the node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from kvshim.backend import schema
from kvshim.backend.options import BackendOptions
from kvshim.backend.session import Session, open_connection, open_writer
from kvshim.errors import StartupError
from kvshim.version import FORMAT_VERSION

_MAGIC: Final = b"SQLite format 3\x00"


def open_or_create(path: Path, options: BackendOptions) -> Session:
    """The writing connection to a checked or newly made kv.db.

    Raises `StartupError` when the file is foreign, corrupt, newer, or cannot be used.
    """
    try:
        if path.exists() and path.stat().st_size > 0 and not _is_unfinished(path, options):
            return open_writer(path, options.vfs, options.page_cache_bytes)
        return _create(path, options)
    except apsw.FullError as error:
        raise StartupError(f"cannot open {path}: the disk is full") from error
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StartupError(f"{path} is corrupt and was left as it is: {error}") from error
    except apsw.Error as error:
        raise StartupError(f"cannot open {path}: {error}") from error
    except OSError as error:
        raise StartupError(f"cannot open {path}: {error.strerror or error}") from error


def _is_unfinished(path: Path, options: BackendOptions) -> bool:
    """True when making the file was cut off before its one transaction; raises if not ours."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise StartupError(f"{path} is not a kvshim store: it was left as it is")
    # Making the file was cut off within its one transaction: SQLite must be able to undo that. From
    # then on there is only a WAL, never a journal.
    cut_off = path.with_name(path.name + "-journal").exists()
    flags = apsw.SQLITE_OPEN_READWRITE if cut_off else apsw.SQLITE_OPEN_READONLY
    session = open_connection(path, flags, options.vfs, options.page_cache_bytes)
    try:
        return examine(path, session.db)
    finally:
        session.close()


def examine(path: Path, db: apsw.Connection) -> bool:
    """True for a database without tables. Raises `StartupError` if it is not ours, or newer."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    application = db.pragma("application_id")
    version = db.pragma("user_version")
    if not tables and application in (0, schema.APPLICATION_ID):
        return True
    if application != schema.APPLICATION_ID:
        raise StartupError(f"{path} is another program's database: it was left as it is")
    if version > FORMAT_VERSION:
        raise StartupError(
            f"{path} has format {version}, this program knows up to {FORMAT_VERSION}: "
            "use the newer program; the data was left as it is"
        )
    if db.execute(schema.READ_STATE).fetchone() is None:
        raise StartupError(f"{path} is corrupt and was left as it is: it has no state row")
    return False


def _create(path: Path, options: BackendOptions) -> Session:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    session = open_connection(path, flags, options.vfs, options.page_cache_bytes)
    try:
        db = session.db
        # Both only take effect before the first table, hence before WAL writes page 1.
        db.pragma("page_size", options.page_size)
        db.pragma("auto_vacuum", "INCREMENTAL")
        if db.pragma("journal_mode", "WAL") != "wal":
            raise StartupError(f"cannot open {path}: its file system has no shared memory for WAL")
        with db:
            for statement in schema.CREATE_TABLES:
                db.execute(statement).fetchall()
            db.pragma("application_id", schema.APPLICATION_ID)
            db.pragma("user_version", schema.FIRST_FORMAT_VERSION)
    except BaseException:
        session.close()
        raise
    return session
