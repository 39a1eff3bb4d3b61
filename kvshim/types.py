"""The vocabulary every room shares: revisions, leases, key ranges, versions and events.

Plain values only: nothing here reads a clock, a disk or a socket. Safe on every thread.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, NewType

Revision = NewType("Revision", int)
"""A main revision of the store: 1 when empty, one more for each command that changes keys."""

LeaseID = NewType("LeaseID", int)
MemberID = NewType("MemberID", int)
ClusterID = NewType("ClusterID", int)

NO_LEASE = LeaseID(0)


class KeyRange(NamedTuple):
    """Keys from `start` up to, not including, `end`; an `end` of None means to the last key."""

    start: bytes
    end: bytes | None

    @classmethod
    def of(cls, key: bytes, range_end: bytes) -> KeyRange:
        """Read etcd's (key, range_end) pair: empty end is one key, a zero byte is "from key"."""
        if not range_end:
            return cls(key, key + b"\x00")
        if range_end == b"\x00":
            return cls(key, None)
        return cls(key, range_end)

    @property
    def is_single(self) -> bool:
        """True when the range can hold one key only."""
        return self.end == self.start + b"\x00"

    @property
    def is_empty(self) -> bool:
        """True when no key can lie in the range."""
        return self.end is not None and self.end <= self.start

    def behind(self, key: bytes) -> KeyRange:
        """What follows `key`."""
        return KeyRange(key + b"\x00", self.end)

    def through(self, key: bytes) -> KeyRange:
        """What comes before `key`, and `key` itself."""
        return KeyRange(self.start, key + b"\x00")

    def contains(self, key: bytes) -> bool:
        """True when `key` lies in the range."""
        return self.start <= key and (self.end is None or key < self.end)


class KeyValue(NamedTuple):
    """One version of one key, as `mvccpb.KeyValue` describes it, and its place in its revision.

    A tuple, because writes make several each: a frozen dataclass takes three times as long to make.
    """

    key: bytes
    value: bytes
    create_revision: Revision
    mod_revision: Revision
    version: int
    lease: LeaseID
    sub: int = 0


class EventKind(IntEnum):
    """Numbers are those of `mvccpb.Event.EventType`."""

    PUT = 0
    DELETE = 1
