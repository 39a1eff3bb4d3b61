"""HashKV: a CRC-32C whose value is etcd's for the same history.

etcd hashes its bucket name and then, in order of revision, each version's key (main revision, `_`,
sub-revision, big-endian, and `t` behind a deletion) and its encoded pair. What counts are the rules
of etcd 3.7's `storage/mvcc/hash.go`: everything above the compact revision, and below it only what
is alive at the revision hashed; with nothing alive there, what a finished compaction keeps. Both
are asked of the lives here, so the value never depends on how far physical compaction is.
Reader thread: reads every version once.
"""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import google_crc32c

from kvshim.backend.ids import SUB_BITS, SUB_MAX, last_id
from kvshim.errors import Compacted, FutureRevision
from kvshim.mvcc.encoding import encode_tombstone, unframe
from kvshim.mvcc.view import ReadView
from kvshim.types import Revision

if TYPE_CHECKING:
    from kvshim.mvcc.store import Store

_BUCKET: Final = b"key"
_TOMBSTONE: Final = b"t"
_PLACE: Final = struct.Struct(">QcQ")
_BUFFER_BYTES: Final = 1 << 18

STEP_BYTES: Final = 8 << 20
"""Bytes hashed in one snapshot."""


class KeyValueHash(NamedTuple):
    """HashKV's answer."""

    hash: int
    compact_revision: Revision
    hash_revision: Revision


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
    """The hash of a history in steps: each step is a short read, of about `STEP_BYTES`.

    Versions that the hash is made of do not change any more; only physical compaction could take
    them, so their revision is pinned while the run lasts, and checked in each snapshot.
    """

    def __init__(self, view: ReadView, revision: int) -> None:
        """Raises `Compacted` or `FutureRevision`; 0 and less ask for the newest revision."""
        compact = view.compact_revision
        if 0 < revision < compact:
            raise Compacted
        if revision > view.revision:
            raise FutureRevision
        self.at = Revision(revision) if revision > 0 else view.revision
        self.compact_revision = compact
        self.hasher = _Hasher(_BUCKET)
        self.finished = False
        alive_at = self.at if view.any_alive(self.at) else compact
        self._bounds = (last_id(compact), last_id(self.at), last_id(alive_at))
        self._after_id = 0

    def step(self, view: ReadView) -> None:
        """Hash some more. Raises `Compacted` if versions are gone that the hash needs."""
        if not view.is_intact(self.compact_revision):
            raise Compacted
        size = 0
        with closing(view.hashed_versions(self._bounds, self._after_id)) as rows:
            for row in rows:
                pieces = _pieces(row)
                self.hasher.add(*pieces)
                size += sum(map(len, pieces))
                if size >= STEP_BYTES:
                    self._after_id = row[0]
                    return
        self.finished = True

    def result(self) -> KeyValueHash:
        """The hash of a finished run."""
        return KeyValueHash(self.hasher.digest(), self.compact_revision, self.at)


def hash_kv(view: ReadView, revision: int) -> KeyValueHash:
    """Hash the history up to a revision in one snapshot; see `HashRun` for the errors."""
    run = HashRun(view, revision)
    while not run.finished:
        run.step(view)
    return run.result()


def hash_store(store: Store, revision: int) -> tuple[Revision, KeyValueHash]:
    """(store's revision, hash) by many short reads, however large the history. Blocks."""
    with store.read() as view:
        current = view.revision
        run = HashRun(view, revision)
        pin = store.pins.pin(run.compact_revision)
    try:
        while not run.finished:
            with store.read() as view:
                run.step(view)
        return current, run.result()
    finally:
        store.pins.release(pin)


def hash_all(view: ReadView) -> int:
    """Hash everything that all members hold alike: history, leases and alarms."""
    run = HashRun(view, 0)
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
    return hasher.digest()


def _pieces(row: tuple[Any, ...]) -> tuple[bytes, ...]:
    version_id, key, deleted, head, value, tail = row
    place = _PLACE.pack(version_id >> SUB_BITS, b"_", version_id & SUB_MAX)
    if deleted:
        return place, _TOMBSTONE, encode_tombstone(key)
    return place, unframe(head), value, tail
