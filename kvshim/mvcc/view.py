"""Reading the store: everything here is answered from one snapshot.

A `ReadView` belongs to the thread that opened it and ends with its `with` block. The batch and
the transaction on the writing side are views too, which also see what they have written.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, NamedTuple

from kvshim.backend import schema
from kvshim.backend import statements as sql
from kvshim.backend.ids import first_id, last_id, revision_of, sub_of
from kvshim.backend.session import Session
from kvshim.errors import Compacted, FutureRevision
from kvshim.mvcc.counts import CountCache
from kvshim.mvcc.events import Event
from kvshim.mvcc.records import AuthRecords, KeyValueHash, LeaseRecord
from kvshim.types import EventKind, KeyRange, KeyValue, LeaseID, Revision

SELECT_ROWS: Final = 256
"""Rows that `select` fetches at a time, so that no statement stays open between two of them."""

HISTORY_REVISIONS_MAX: Final = 20_000
"""Revisions that one call of `history` looks at: bounds the time of a scan that finds nothing."""

CHUNK_BYTES: Final = 1 << 20
"""Bytes that one statement should join, so that no slice of a response is much longer."""

CHUNK_BYTES_MAX: Final = 4 * CHUNK_BYTES
"""What a chunk may have whose pairs are longer than those before it, unless it is one pair."""

FIRST_PART_ROWS: Final = 512
"""So that a page of 500, kube-apiserver's, is one part."""

CHUNK_ROWS_MAX: Final = 4096

U32: Final = (1 << 32) - 1
U64: Final = 1 << 64
I64_MAX: Final = (1 << 63) - 1


class Extent(NamedTuple):
    """The first keys of a range: size of their framed pairs in bytes, how many, the last one.

    `is_last` when the range ends with them.
    """

    size: int
    rows: int
    last_key: bytes | None
    is_last: bool

    @property
    def rows_for_next(self) -> int:
        """How many rows like these make about `CHUNK_BYTES`."""
        return max(1, min(CHUNK_ROWS_MAX, CHUNK_BYTES * self.rows // max(1, self.size)))


class Part(NamedTuple):
    """Neighbouring keys: the range that holds no others, how many, bytes of their framed pairs."""

    keys: KeyRange
    rows: int
    size: int


class Chunk(NamedTuple):
    """Framed pairs end to end, and how far they reach."""

    pairs: bytes
    extent: Extent


def key_value(row: tuple[Any, ...]) -> KeyValue:
    """A version from the columns (key, create_id, id, version, lease, value)."""
    key, create_id, version_id, version, lease, value = row
    return KeyValue(
        key,
        value,
        revision_of(create_id),
        revision_of(version_id),
        version,
        lease,
        sub_of(version_id),
    )


class ReadView:
    """One snapshot. `counts` is where counts of committed revisions may be remembered."""

    __slots__ = ("_known_hash", "_session", "compact_revision", "counts", "revision", "walked_id")

    def __init__(
        self,
        session: Session,
        revision: Revision,
        compact_revision: Revision,
        counts: CountCache | None,
        *,
        walked_id: int = 0,
        known_hash: Callable[[int], KeyValueHash | None] | None = None,
    ) -> None:
        self._session = session
        self.revision = revision
        self.compact_revision = compact_revision
        self.counts = counts
        self.walked_id = walked_id
        self._known_hash = known_hash

    @property
    def format_version(self) -> int:
        """The cluster version that the store is of."""
        row = self._session.one(schema.READ_FORMAT_VERSION)
        assert row is not None
        return int(row[0])

    # --- live keys -----------------------------------------------------------------------------

    def get(self, key: bytes) -> KeyValue | None:
        """The key's present version."""
        row = self._session.one(sql.GET_LIVE_ROW, (key,))
        return None if row is None else key_value(row)

    def select(self, keys: KeyRange, limit: int = 0) -> Iterator[KeyValue]:
        """Present versions in key order, the first `limit` of them if it is above 0."""
        left = limit if limit > 0 else I64_MAX
        while left > 0:
            wanted = min(left, SELECT_ROWS)
            rows = self._session.all(*sql.LIVE_ROWS.bind(keys, None, wanted))
            for row in rows:
                yield key_value(row)
            if len(rows) < wanted:
                return
            left -= wanted
            keys = keys.behind(rows[-1][0])

    def count(self, keys: KeyRange, at: Revision | None = None) -> int:
        """Keys in the range, now or at a readable revision."""
        if at is None or at >= self.revision:
            row = self._session.one(*sql.LIVE_COUNT.bind(keys))
        else:
            row = self._session.one(*sql.COUNT_AT.bind(keys, last_id(at)))
        assert row is not None
        return int(row[0])

    # --- keys at a revision ----------------------------------------------------------------------

    def readable(self, revision: int) -> Revision:
        """The revision that a request for `revision` reads; 0 and less ask for the newest.

        Raises `FutureRevision` and `Compacted`, in etcd's order.
        """
        if revision > self.revision:
            raise FutureRevision
        at = Revision(revision) if revision > 0 else self.revision
        if at < self.compact_revision:
            raise Compacted
        return at

    def is_intact(self, at: Revision) -> bool:
        """True while no version that is alive at a revision is physically gone, compacted or not.

        `walked_id` is the first version that physical compaction has not looked at.
        """
        return self.walked_id <= last_id(at) + 1

    def pair(self, key: bytes, at: Revision) -> bytes | None:
        """One key's framed pair."""
        if at >= self.revision:
            row = self._session.one(sql.GET_LIVE_PAIR, (key,))
        else:
            row = self._session.one(sql.GET_PAIR_AT, (key, None, last_id(at)))
        return None if row is None else row[0]

    def parts(self, keys: KeyRange, at: Revision, limit: int) -> Iterator[Part]:
        """The first `limit` keys of a range, about `CHUNK_BYTES` a part; no value is read."""
        left, wanted = limit, FIRST_PART_ROWS
        while left > 0:
            extent = self._short_extent(keys, at, min(left, wanted))
            if extent.last_key is None:
                return
            yield Part(keys.through(extent.last_key), extent.rows, extent.size)
            if extent.is_last:
                return
            left -= extent.rows
            keys = keys.behind(extent.last_key)
            wanted = extent.rows_for_next

    def chunk(self, keys: KeyRange, at: Revision, rows: int) -> Chunk:
        """The first `rows` framed pairs of a range, or fewer if they would be very long."""
        extent = self._short_extent(keys, at, rows)
        if extent.last_key is None:
            return Chunk(b"", extent)
        return Chunk(self.pairs(keys.through(extent.last_key), at), extent)

    def pairs(self, keys: KeyRange, at: Revision) -> bytes:
        """All framed pairs of a short range, end to end."""
        statement = sql.LIVE_CHUNK if at >= self.revision else sql.CHUNK_AT
        row = self._session.one(*statement.bind(keys, last_id(at), -1))
        assert row is not None
        return row[0] or b""

    def _short_extent(self, keys: KeyRange, at: Revision, rows: int) -> Extent:
        """Of the first `rows` keys as many as make no very long chunk, at least one."""
        extent = self.extent(keys, at, rows)
        while extent.size > CHUNK_BYTES_MAX and extent.rows > 1:
            extent = self.extent(keys, at, extent.rows_for_next)
        return extent

    def extent(self, keys: KeyRange, at: Revision, limit: int) -> Extent:
        """How far up to `limit` keys reach; no value is read for it."""
        statement = sql.LIVE_EXTENT if at >= self.revision else sql.EXTENT_AT
        row = self._session.one(*statement.bind(keys, last_id(at), limit))
        assert row is not None
        size, rows, last_key = row
        return Extent(size, rows, last_key, rows < limit)

    def versions(self, keys: KeyRange, at: Revision, limit: int) -> list[KeyValue]:
        """Versions in key order; -1 takes all."""
        statement = sql.LIVE_ROWS if at >= self.revision else sql.ROWS_AT
        return [
            key_value(row) for row in self._session.all(*statement.bind(keys, last_id(at), limit))
        ]

    def bare_versions(self, keys: KeyRange, at: Revision, limit: int) -> list[KeyValue]:
        """Versions in key order, their values left out; -1 takes all."""
        statement = sql.LIVE_BARE if at >= self.revision else sql.BARE_AT
        return [
            key_value(row) for row in self._session.all(*statement.bind(keys, last_id(at), limit))
        ]

    def pair_of(self, version: KeyValue) -> bytes:
        """The framed pair of a version that this view has found."""
        row = self._session.one(sql.GET_PAIR, (first_id(version.mod_revision) | version.sub,))
        assert row is not None
        return bytes(row[0])

    # --- events ----------------------------------------------------------------------------------

    def history(
        self, keys: KeyRange, start: Revision, end: Revision, max_bytes: int
    ) -> tuple[list[Event], Revision]:
        """Events of whole revisions from `start` to `end`, and the revision to go on from.

        In order of (revision, sub). Stops after the revision in which `max_bytes` are exceeded,
        and when enough was looked at. At the compact revision itself only each key's last change
        is left, without what it replaced. Raises `Compacted` if `start` is below it.
        """
        if start < self.compact_revision:
            raise Compacted
        end = Revision(min(end, self.revision, start + HISTORY_REVISIONS_MAX - 1))
        events: list[Event] = []
        size = 0
        for event in self._read_events(keys, start, end):
            if size > max_bytes and event.revision != events[-1].revision:
                return events, event.revision
            events.append(event)
            size += event.size
        return events, Revision(max(start, end + 1))

    def _read_events(self, keys: KeyRange, start: Revision, end: Revision) -> Iterator[Event]:
        first, last = first_id(start), last_id(end)
        if keys.is_single:
            rows = self._session.iterate(sql.EVENTS_OF_KEY, (keys.start, b"", first, last))
        else:
            rows = self._session.iterate(*sql.EVENTS_IN_RANGE.bind(keys, first, last))
        compacted: dict[bytes, Event] = {}
        for version_id, key, deleted, create_id, pair, replaced in rows:
            revision = revision_of(version_id)
            prev = replaced
            if deleted and revision_of(create_id) == revision:
                # Its life began in this very revision: what was before it is an earlier life's.
                prev = self.pair(key, Revision(revision - 1))
            if revision != self.compact_revision and compacted:
                yield from sorted(compacted.values(), key=lambda event: event.sub)
                compacted = {}
            event = Event(
                EventKind.DELETE if deleted else EventKind.PUT,
                revision,
                sub_of(version_id),
                key,
                (pair,),
                (prev,) if prev is not None and revision > self.compact_revision else None,
                create=not deleted and revision_of(create_id) == revision,
            )
            if revision == self.compact_revision:
                compacted[key] = event
            else:
                yield event
        yield from sorted(compacted.values(), key=lambda event: event.sub)

    # --- everything, for hashing -----------------------------------------------------------------

    def any_alive(self, at: Revision) -> bool:
        """True when some key is alive at a revision."""
        row = self._session.one(sql.ANY_ALIVE, (last_id(at),))
        return row is not None and bool(row[0])

    def any_deleted_at(self, revision: Revision) -> bool:
        """True when some key was deleted at a revision."""
        row = self._session.one(sql.ANY_DELETED, (first_id(revision), last_id(revision)))
        return row is not None and bool(row[0])

    def nth_version(self, after_id: int, until_id: int, count: int) -> int | None:
        """The id of the `count`-th version of a window of ids, or of its last; None when empty."""
        row = self._session.one(sql.NTH_VERSION, (after_id, until_id, count))
        return None if row is None else row[0]

    def compaction_hash(self, revision: int) -> KeyValueHash | None:
        """What was hashed when a revision was compacted, as far as it is remembered."""
        return None if self._known_hash is None else self._known_hash(revision)

    def hashed_versions(
        self, bounds: tuple[int, int, int], after_id: int
    ) -> Generator[tuple[Any, ...], None, None]:
        """(id, key, deleted, head, value, tail) of the versions that a hash is made of, in order.

        `bounds` are the last ids of the compact revision, of the revision hashed, and of the one at
        which a version up to the compact revision must be alive.
        """
        return self._session.iterate(sql.HASHED_VERSIONS, (*bounds, after_id))

    def exported_versions(
        self, compact: tuple[int, int], after_id: int, until_id: int
    ) -> Generator[tuple[Any, ...], None, None]:
        """(id, key if it is a deletion, framed pair) of what a finished compaction leaves.

        `compact` are the first and last id of the compact revision.
        """
        return self._session.iterate(sql.EXPORTED_VERSIONS, (*compact, after_id, until_id))

    def rows(self, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The rows of one of the backend's statements, for rooms that look below keys."""
        return self._session.all(statement, parameters)

    # --- leases, alarms, meta ------------------------------------------------------------------

    def leases(self) -> list[LeaseRecord]:
        """All leases, by id."""
        return [LeaseRecord(*row) for row in self._session.all(schema.ALL_LEASES)]

    def lease(self, lease: LeaseID) -> LeaseRecord | None:
        """One lease."""
        row = self._session.one(schema.ONE_LEASE, (lease,))
        return None if row is None else LeaseRecord(*row)

    def lease_keys(self, lease: LeaseID) -> list[bytes]:
        """The live keys attached to a lease, in key order."""
        return [key for (key,) in self._session.all(schema.LEASE_KEYS, (lease,))]

    def alarms(self) -> list[tuple[int, int]]:
        """(member id, alarm type) of the standing alarms, in that order."""
        return sorted((member % U64, kind) for member, kind in self._session.all(schema.ALL_ALARMS))

    def auth(self) -> AuthRecords | None:
        """Users and roles; None while no command has ever changed them."""
        if self._session.one(schema.HAS_AUTH) is None:
            return None
        row = self._session.one(schema.GET_AUTH)
        assert row is not None
        users = [user for (user,) in self._session.all(schema.ALL_USERS)]
        roles = [role for (role,) in self._session.all(schema.ALL_ROLES)]
        return AuthRecords(bool(row[0]), row[1], users, roles)

    def meta(self, name: str) -> bytes | None:
        """A named value of the node's own."""
        row = self._session.one(schema.GET_META, (name,))
        return None if row is None else row[0]
