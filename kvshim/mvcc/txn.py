"""One command's changes: put and delete keys at the next revision, and collect the events.

A transaction reads what it has written. Its revision is the batch's until it changes something,
then one more. Apply thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvshim.backend import statements as sql
from kvshim.backend.ids import SUB_MAX, first_id, revision_of, sub_of
from kvshim.errors import StorageError
from kvshim.mvcc.encoding import checksum, encode_deletion, encode_put
from kvshim.mvcc.events import Event
from kvshim.mvcc.view import ReadView, key_value
from kvshim.types import EventKind, KeyRange, KeyValue, LeaseID, Revision

if TYPE_CHECKING:
    from kvshim.mvcc.store import WriteBatch

_Pieces = tuple[bytes, ...]
_Row = tuple[Any, ...]

_NO_EVENTS: Final[list[Event]] = []


class WriteTxn(ReadView):
    """See the module's text; made by `WriteBatch.begin`, ended by `finish`."""

    __slots__ = ("_batch", "_events", "_originals", "_seen", "base_revision")

    def __init__(self, batch: WriteBatch) -> None:
        super().__init__(batch._session, batch.revision, batch.compact_revision, None)
        self.base_revision = batch.revision
        self._batch = batch
        self._events: list[Event] = []
        # What a key that this transaction changed was before it, framed; None if it was not.
        self._originals: dict[bytes, _Pieces | None] = {}
        # The last key looked at and its row, until something changes: a guarded write looks at
        # its key twice.
        self._seen: tuple[bytes, _Row | None] | None = None

    def get(self, key: bytes) -> KeyValue | None:
        """The key's present version."""
        row = self._live(key)
        return None if row is None else key_value((key, *row[:5]))

    def put(self, key: bytes, value: bytes, lease: LeaseID) -> KeyValue | None:
        """Write a version; returns the one it replaced, even if this transaction made that."""
        version_id = self._next_id()
        revision = self.revision
        session = self._session
        row = self._live(key)
        self._seen = None
        replaced: KeyValue | None = None
        if row is None:
            create_id, version = version_id, 1
        else:
            create_id, version = row[0], row[2] + 1
            replaced = key_value((key, *row[:5]))
        create = revision_of(create_id)
        head, tail = encode_put(key, create, revision, version, value, lease)
        size = len(head) + len(value) + len(tail)
        if row is None:
            session.run(sql.INSERT_LIVE, (key, create_id, version_id, 1, lease, size))
        else:
            session.run(sql.UPDATE_LIVE, (version_id, version, lease, size, key))
        crc = checksum(head, tail, value)
        session.run(
            sql.INSERT_HISTORY, (version_id, create_id, version, lease, crc, key, head, tail, value)
        )
        self._batch.written.append(crc)
        original = self._original(key, row)
        self._events.append(
            Event(
                EventKind.PUT,
                revision,
                sub_of(version_id),
                key,
                (head, value, tail),
                original if create < revision else None,
                create=create == revision,
            )
        )
        return replaced

    def delete_range(self, keys: KeyRange) -> list[KeyValue]:
        """Delete the live keys of a range; returns the deleted versions in key order."""
        rows = self._live_rows(keys)
        if not rows:
            return []
        self._seen = None
        self._session.run(*sql.DELETE_LIVE_RANGE.bind(keys))
        deletions, ended, deleted = [], [], []
        for row in rows:
            create_id, key = row[0], row[7]
            version_id = self._next_id()
            pair = encode_deletion(key, self.revision)
            deletions.append((version_id, create_id, checksum(pair, b"", b""), key, pair))
            ended.append((key, create_id, version_id))
            deleted.append(key_value((key, *row[:5])))
            self._events.append(
                Event(
                    EventKind.DELETE,
                    self.revision,
                    sub_of(version_id),
                    key,
                    (pair,),
                    self._original(key, row),
                    create=False,
                )
            )
        self._session.many(sql.INSERT_DELETION, deletions)
        self._batch.written += (deletion[2] for deletion in deletions)
        self._session.many(sql.INSERT_ENDED, ended)
        return deleted

    def finish(self) -> list[Event]:
        """End the transaction: the batch is at its revision now. Events in order of change."""
        events, self._events = self._events, _NO_EVENTS
        self._batch.advance(self.revision)
        return events

    def _next_id(self) -> int:
        sub = len(self._events)
        if sub > SUB_MAX:
            raise StorageError(f"a command changes more than {SUB_MAX + 1} keys at one revision")
        self.revision = Revision(self.base_revision + 1)
        return first_id(self.revision) | sub

    def _live(self, key: bytes) -> _Row | None:
        """create_id, id, version, lease, value, head and tail of a key."""
        if self._seen is None or self._seen[0] != key:
            self._seen = key, self._session.one(sql.GET_LIVE_FULL, (key,))
        return self._seen[1]

    def _live_rows(self, keys: KeyRange) -> list[_Row]:
        """What `_live` gives, and the key, of every key of a range, in order."""
        if not keys.is_single:
            return self._session.all(*sql.LIVE_FULL.bind(keys, None, -1))
        row = self._live(keys.start)
        return [] if row is None else [(*row, keys.start)]

    def _original(self, key: bytes, row: _Row | None) -> _Pieces | None:
        """What an event shows as the previous pair: the version before this revision."""
        if key not in self._originals:
            # row: create_id, id, version, lease, value, head, tail
            self._originals[key] = None if row is None else (row[5], row[4], row[6])
        return self._originals[key]
