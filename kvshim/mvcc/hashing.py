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
from typing import Any, Final, NamedTuple

import google_crc32c

from kvshim.backend.ids import SUB_BITS, SUB_MAX, last_id
from kvshim.errors import Compacted, FutureRevision
from kvshim.mvcc.encoding import encode_tombstone, unframe
from kvshim.mvcc.view import ReadView
from kvshim.types import Revision

_BUCKET: Final = b"key"
_TOMBSTONE: Final = b"t"
_PLACE: Final = struct.Struct(">QcQ")
_BUFFER_BYTES: Final = 1 << 18


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


def hash_kv(view: ReadView, revision: int) -> KeyValueHash:
    """Hash the history up to a revision; 0 and less ask for the newest.

    Raises `Compacted` or `FutureRevision`.
    """
    compact_revision = view.compact_revision
    if 0 < revision < compact_revision:
        raise Compacted
    if revision > view.revision:
        raise FutureRevision
    at = Revision(revision) if revision > 0 else view.revision
    hasher = _Hasher(_BUCKET)
    _add_versions(hasher, view, compact_revision, at)
    return KeyValueHash(hasher.digest(), compact_revision, at)


def hash_all(view: ReadView) -> int:
    """Hash everything that all members hold alike: history, leases and alarms."""
    hasher = _Hasher(_BUCKET)
    _add_versions(hasher, view, view.compact_revision, view.revision)
    hasher.add(b"revision", struct.pack(">qq", view.revision, view.compact_revision))
    hasher.add(b"lease")
    for lease in view.leases():
        hasher.add(struct.pack(">qqq", lease.id, lease.ttl, lease.remaining_ttl))
    hasher.add(b"alarm")
    for member, kind in view.alarms():
        hasher.add(struct.pack(">Qq", member, kind))
    return hasher.digest()


def _add_versions(hasher: _Hasher, view: ReadView, compact: Revision, at: Revision) -> None:
    alive_at = at if view.any_alive(at) else compact
    bounds = (last_id(compact), last_id(at), last_id(alive_at))
    for row in view.hashed_versions(bounds):
        hasher.add(*_pieces(row))


def _pieces(row: tuple[Any, ...]) -> tuple[bytes, ...]:
    version_id, key, deleted, head, value, tail = row
    place = _PLACE.pack(version_id >> SUB_BITS, b"_", version_id & SUB_MAX)
    if deleted:
        return place, _TOMBSTONE, encode_tombstone(key)
    return place, unframe(head), value, tail
