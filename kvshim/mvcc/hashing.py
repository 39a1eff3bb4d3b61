"""HashKV: a CRC-32C whose value is etcd's for the same history.

etcd hashes its bucket name and then, in order of revision, each version's key (main revision, `_`,
sub-revision, big-endian, and `t` behind a deletion) and its encoded pair. What counts are the rules
of etcd 3.7's `storage/mvcc/hash.go`: everything above the compact revision, and below it only what
is alive at the revision hashed; with nothing alive there, what a finished compaction keeps. Both
are asked of the lives here, so the value never depends on how far physical compaction is.

As in etcd, each compaction also hashes what it is about to thin out, as of the compaction before
it, and HashKV answers a revision that was compacted with that. Reads every version once.
"""

from __future__ import annotations

import struct
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import google_crc32c

from kvshim.backend.ids import SUB_BITS, SUB_MAX, last_id
from kvshim.errors import Compacted, FutureRevision
from kvshim.mvcc.encoding import encode_tombstone, unframe
from kvshim.mvcc.records import KeyValueHash
from kvshim.mvcc.view import ReadView
from kvshim.types import Revision

if TYPE_CHECKING:
    from kvshim.mvcc.store import Store

_BUCKET: Final = b"key"
_TOMBSTONE: Final = b"t"
_PLACE: Final = struct.Struct(">QcQ")
_BUFFER_BYTES: Final = 1 << 18

STEP_ROWS: Final = 20_000
STEP_BYTES: Final = 8 << 20
"""Versions looked at, and bytes hashed, in one snapshot."""

COMPACTION_HASHES_MAX: Final = 10
"""As many as etcd keeps."""


class _Hasher:
    """A CRC-32C over many small pieces, a buffer at a time: one call into C is for many rows."""

    def __init__(self, start: bytes) -> None:
        self._crc = int(google_crc32c.value(start))
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, *pieces: bytes) -> None:
        self._pieces.extend(pieces)
        self._size += sum(map(len, pieces))
        if self._size > _BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._crc = int(google_crc32c.extend(self._crc, b"".join(self._pieces)))
        self._pieces.clear()
        self._size = 0

    def digest(self) -> int:
        self._flush()
        return self._crc


class HashRun:
    """The hash of a history in steps, each a short read.

    Versions that the hash is made of do not change any more; only physical compaction could take
    them, so their revision is to be pinned while the run lasts, and is checked in each snapshot.
    """

    def __init__(self, compact: Revision, at: Revision, alive_at: Revision) -> None:
        """Versions up to `compact` count if they are alive at `alive_at`."""
        self.compact_revision = compact
        self.at = at
        self.hasher = _Hasher(_BUCKET)
        self.finished = False
        self._bounds = (last_id(compact), last_id(at), last_id(alive_at))
        self._after_id = 0

    @classmethod
    def of_revision(cls, view: ReadView, revision: int) -> HashRun:
        """For HashKV; 0 asks for the newest revision. Raises `Compacted` or `FutureRevision`."""
        compact = view.compact_revision
        if 0 < revision < compact:
            raise Compacted
        if revision > view.revision:
            raise FutureRevision
        at = Revision(revision) if revision != 0 else view.revision
        return cls(compact, at, at if view.any_alive(at) else compact)

    @classmethod
    def of_compaction(cls, view: ReadView, previous: Revision, revision: Revision) -> HashRun:
        """For a compaction; one at a deletion keeps that, so there something is left."""
        kept = view.any_alive(revision) or view.any_deleted_at(revision)
        return cls(previous, revision, revision if kept else previous)

    def step(self, view: ReadView, rows_max: int = STEP_ROWS, bytes_max: int = STEP_BYTES) -> None:
        """Hash some more. Raises `Compacted` if versions are gone that the hash needs."""
        if not view.is_intact(self.compact_revision):
            raise Compacted
        last = view.nth_version(self._after_id, self._bounds[1], rows_max)
        if last is None:
            self.finished = True
            return
        size = 0
        compact, _, alive_at = self._bounds
        rows = view.hashed_versions((compact, last, alive_at), self._after_id)
        with closing(rows):
            for row in rows:
                pieces = _pieces(row)
                self.hasher.add(*pieces)
                size += sum(map(len, pieces))
                if size >= bytes_max:
                    self._after_id = row[0]
                    return
        self._after_id = last

    def result(self) -> KeyValueHash:
        """The hash of a finished run."""
        return KeyValueHash(self.hasher.digest(), self.compact_revision, self.at)


class CompactionHashes:
    """What the newest compactions hashed. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hashes: list[KeyValueHash] = []

    def add(self, hashed: KeyValueHash) -> None:
        """Remember a hash; the one of the oldest revision goes."""
        with self._lock:
            self._hashes.append(hashed)
            self._hashes.sort(key=lambda known: known.hash_revision)
            del self._hashes[:-COMPACTION_HASHES_MAX]

    def all(self) -> list[KeyValueHash]:
        """All that are remembered, by revision."""
        with self._lock:
            return list(self._hashes)

    def get(self, revision: int) -> KeyValueHash | None:
        """The hash made when a revision was compacted."""
        with self._lock:
            return next((one for one in self._hashes if one.hash_revision == revision), None)


def hash_kv(view: ReadView, revision: int) -> KeyValueHash:
    """Hash the history up to a revision in one snapshot. Raises `Compacted`, `FutureRevision`."""
    known = view.compaction_hash(revision)
    if known is not None:
        return known
    run = HashRun.of_revision(view, revision)
    while not run.finished:
        run.step(view)
    return run.result()


def hash_store(store: Store, revision: int) -> tuple[Revision, KeyValueHash]:
    """(store's revision, hash) by many short reads, however large the history. Blocks."""
    with store.read() as view:
        current = view.revision
        known = view.compaction_hash(revision)
    if known is not None:
        return current, known
    return current, hash_content(store, revision or current)


def hash_content(store: Store, revision: int) -> KeyValueHash:
    """The same from what is stored now, and never from memory: to compare members. Blocks."""
    with store.read() as view:
        run = HashRun.of_revision(view, revision)
        pin = store.pins.pin(run.compact_revision)
    try:
        while not run.finished:
            with store.read() as view:
                run.step(view)
        return run.result()
    finally:
        store.pins.release(pin)


def hash_all(view: ReadView) -> int:
    """Hash everything that all members hold alike: history, leases, alarms and users."""
    run = HashRun.of_revision(view, 0)
    while not run.finished:
        run.step(view)
    hasher = run.hasher
    hasher.add(b"revision", struct.pack(">qq", view.revision, view.compact_revision))
    hasher.add(b"lease")
    for lease in view.leases():
        hasher.add(struct.pack(">qqq", lease.id, lease.ttl, lease.remaining_ttl))
    hasher.add(b"alarm")
    for member, kind in view.alarms():
        hasher.add(struct.pack(">Qq", member, kind))
    auth = view.auth()
    if auth is not None:
        hasher.add(b"auth", struct.pack(">?q", auth.enabled, auth.revision))
        hasher.add(*auth.users, *auth.roles)
    return hasher.digest()


def _pieces(row: tuple[Any, ...]) -> tuple[bytes, ...]:
    version_id, key, deleted, head, value, tail = row
    place = _PLACE.pack(version_id >> SUB_BITS, b"_", version_id & SUB_MAX)
    if deleted:
        return place, _TOMBSTONE, encode_tombstone(key)
    return place, unframe(head), value, tail
