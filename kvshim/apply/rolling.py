"""A hash of what is applied, in segments of the log that are the same on every member.

A segment is 64 entries, from a multiple of 64 on. Its hash covers the checksum of every version
that these entries wrote (and so key, value, lease and revisions), the leases and alarms that they
changed, and the revision they ended at. Only segments seen whole have one: members compare those
that both have, so nothing of it is stored and a member may begin anywhere. Fed by the apply
thread; `segments` may be read on any.
"""

from __future__ import annotations

import struct
import threading
import zlib
from array import array
from typing import Final

from kvshim.mvcc.store import WriteBatch

SEGMENT_ENTRIES: Final = 64
SEGMENTS_KEPT: Final = 256
"""Enough for a member that lags by some 16,000 entries."""

_LAST: Final = SEGMENT_ENTRIES - 1
_END: Final = struct.Struct("<qq")


class RollingHash:
    """The newest whole segments; see the module."""

    def __init__(self, applied_index: int) -> None:
        self._lock = threading.Lock()
        self._segments: dict[int, int] = {}
        self.begin(applied_index)

    def begin(self, applied_index: int) -> None:
        """What is applied next follows this entry; what came before it is forgotten."""
        self._crc = 0
        self._whole = (applied_index + 1) & _LAST == 0
        with self._lock:
            self._segments.clear()

    def applied(self, index: int, batch: WriteBatch) -> None:
        """An entry was applied within `batch`; call it for every one."""
        if index & _LAST != _LAST:
            return
        self.fold(batch)
        if self._whole:
            end = _END.pack(batch.revision, batch.compact_revision)
            with self._lock:
                self._segments[index // SEGMENT_ENTRIES] = zlib.crc32(end, self._crc)
                if len(self._segments) > SEGMENTS_KEPT:
                    del self._segments[next(iter(self._segments))]
        self._crc = 0
        self._whole = True

    def fold(self, batch: WriteBatch) -> None:
        """Take what the batch wrote so far into the hash; before its end, too."""
        if batch.written:
            self._crc = zlib.crc32(array("I", batch.written).tobytes(), self._crc)
            batch.written.clear()

    def segments(self) -> dict[int, int]:
        """Number of segment -> hash, oldest first."""
        with self._lock:
            return dict(self._segments)
