"""The database of kine, as K3s keeps it in `state.db`: a row for each change, named by revision.

Only the present keys are read. The database is opened read-only; it may be in use, and is then
read as of one moment. The calling thread owns the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

import apsw

from kvshim.errors import StorageError

KINE_APPLICATION: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'kine'"

# A change's revision is the id of its row; the newest row of a name is what it is now.
_PRESENT: Final = """FROM kine k
    JOIN (SELECT max(id) AS id FROM kine GROUP BY name) newest ON newest.id = k.id
    WHERE k.deleted = 0 AND k.name NOT IN ('compact_rev_key', 'compact_rev_apiserver')"""

PRESENT_ROWS: Final = f"""SELECT CAST(k.name AS BLOB), CAST(k.value AS BLOB), k.id,
    CASE WHEN k.created THEN k.id ELSE k.create_revision END, coalesce(k.lease, 0) {_PRESENT}
    ORDER BY k.id"""

COUNT_PRESENT: Final = f"SELECT count(*) {_PRESENT}"

NEWEST: Final = "SELECT coalesce(max(id), 1) FROM kine"


class KineRow(NamedTuple):
    """A present key. kine counts no versions."""

    key: bytes
    value: bytes
    mod_revision: int
    create_revision: int
    lease: int


class KineDatabase:
    """An open database, as of one moment."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self.revision = _number(db, NEWEST)
        self.keys = _number(db, COUNT_PRESENT)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Raises `StorageError`."""
        try:
            db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                db.execute("BEGIN")
                if not db.execute(KINE_APPLICATION).fetchall():
                    raise StorageError(f"{path} has no table kine: it is no database of kine's")
                yield cls(db)
            finally:
                db.close()
        except apsw.Error as error:
            raise StorageError(f"cannot read {path}: {error}") from error

    def rows(self) -> Iterator[KineRow]:
        """The present keys, by revision."""
        for key, value, mod, create, lease in self._db.execute(PRESENT_ROWS):
            yield KineRow(key, value or b"", mod, create if 0 < create <= mod else mod, lease)


def _number(db: apsw.Connection, statement: str) -> int:
    ((found,),) = db.execute(statement).fetchall()
    return int(str(found))


def is_sqlite(path: Path) -> bool:
    """Does the file begin as SQLite's do?"""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\x00"
    except OSError:
        return False
