"""Versions that another store has made, taken over with their places.

They come in the order they were made, or as the present versions alone, in any order. A life is
named by the place of its first version; where compaction has taken that, only its revision is
known, and the life gets a place in it that no version has. Apply thread, or a store's only user.
"""

from __future__ import annotations

from typing import Final

from kvshim.backend import statements as sql
from kvshim.backend.ids import REVISION_MAX, SUB_MAX, first_id, last_id, revision_of
from kvshim.errors import StorageError
from kvshim.mvcc.encoding import checksum, encode_deletion, encode_put
from kvshim.mvcc.store import WriteBatch
from kvshim.types import KeyRange, KeyValue, Revision

_SUB_MADE_UP: Final = 1 << 23
"""From here on places are free for lives whose first version is unknown."""


class Loader:
    """Writes into one batch, which it moves on to the revision of what it is given."""

    def __init__(self, batch: WriteBatch) -> None:
        self._batch = batch
        self._session = batch._session

    def put(self, version: KeyValue) -> None:
        """A version at its place. Raises `StorageError` if it does not follow what is there."""
        version_id = self._new_id(version.mod_revision, version.sub)
        life = self._session.one(sql.GET_LIFE, (version.key,))
        if life is not None:
            create_id, version_before = life
            follows = (revision_of(create_id), version_before + 1)
            if (version.create_revision, version.version) != follows:
                raise _misplaced(version, "does not follow the version before")
        elif version.version == 1 and version.create_revision == version.mod_revision:
            create_id = version_id
        else:
            create_id = self._made_up(version)
        self._write(version, version_id, create_id, is_new=life is None)

    def put_present(self, version: KeyValue) -> None:
        """A present version whose place within its revision is not known."""
        bounds = first_id(version.mod_revision), last_id(version.mod_revision)
        row = self._session.one(sql.NEWEST_AT, bounds)
        newest = None if row is None else row[0]
        self.put(version._replace(sub=0 if newest is None else (newest & SUB_MAX) + 1))

    def delete(self, revision: Revision, sub: int, key: bytes) -> None:
        """A deletion at its place; of a life that compaction has taken it may be all that is left.

        Raises `StorageError` if it cannot be there.
        """
        version_id = self._new_id(revision, sub)
        life = self._session.one(sql.GET_LIFE, (key,))
        create_id = version_id if life is None else life[0]
        pair = encode_deletion(key, revision)
        self._session.run(
            sql.INSERT_DELETION, (version_id, create_id, checksum(pair, b"", b""), key, pair)
        )
        self._session.run(sql.INSERT_ENDED, (key, create_id, version_id))
        self._session.run(*sql.DELETE_LIVE_RANGE.bind(KeyRange.of(key, b"")))
        self._advance(revision)

    def _write(self, version: KeyValue, version_id: int, create_id: int, *, is_new: bool) -> None:
        key, value, lease, number = version.key, version.value, version.lease, version.version
        head, tail = encode_put(
            key, version.create_revision, version.mod_revision, number, value, lease
        )
        size = len(head) + len(value) + len(tail)
        if is_new:
            self._session.run(sql.INSERT_LIVE, (key, create_id, version_id, number, lease, size))
        else:
            self._session.run(sql.UPDATE_LIVE, (version_id, number, lease, size, key))
        crc = checksum(head, tail, value)
        self._session.run(
            sql.INSERT_HISTORY,
            (version_id, create_id, number, lease, crc, key, head, tail, value),
        )
        self._advance(version.mod_revision)

    def _made_up(self, version: KeyValue) -> int:
        if not 0 < version.create_revision <= version.mod_revision or version.version < 1:
            raise _misplaced(version, "has a beginning that cannot be")
        first, last = first_id(version.create_revision), last_id(version.create_revision)
        row = self._session.one(sql.OLDEST_LIFE_AT, (first | _SUB_MADE_UP, last))
        oldest = None if row is None else row[0]
        create_id = last if oldest is None else oldest - 1
        if create_id < first | _SUB_MADE_UP:
            raise _misplaced(version, "began in a revision of too many changes")
        return int(create_id)

    def _new_id(self, revision: int, sub: int) -> int:
        if not 0 < revision <= REVISION_MAX or not 0 <= sub < _SUB_MADE_UP:
            raise StorageError(f"revision {revision}.{sub} is larger than kvshim can hold")
        return first_id(revision) | sub

    def _advance(self, revision: Revision) -> None:
        if revision > self._batch.revision:
            self._batch.advance(revision)


def _misplaced(version: KeyValue, what: str) -> StorageError:
    return StorageError(
        f"version {version.version} of the key {version.key!r} at revision {version.mod_revision}"
        f" {what}"
    )
