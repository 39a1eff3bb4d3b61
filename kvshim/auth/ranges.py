"""The keys that permissions name, merged into disjoint ranges. Pure, any thread."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from kvshim.types import KeyRange


class MergedRanges:
    """Ranges that touch count as one: who may read [a, b) and [b, c) may read [a, c)."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[KeyRange]) -> None:
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []
        for keys in sorted(ranges, key=lambda keys: keys.start):
            if self._ends and _reaches(self._ends[-1], keys.start):
                self._ends[-1] = _later(self._ends[-1], keys.end)
            else:
                self._starts.append(keys.start)
                self._ends.append(keys.end)

    def cover(self, keys: KeyRange) -> bool:
        """True when every key of the range is in here.

        An empty range, or one that ends before it starts, counts as its first key, as in etcd where
        one range is granted; with more its answer depends on the order of granting.
        """
        position = bisect_right(self._starts, keys.start) - 1
        if position < 0:
            return False
        end = self._ends[position]
        if end is None:
            return True
        return keys.start < end and keys.end is not None and keys.end <= end


def _reaches(end: bytes | None, start: bytes) -> bool:
    return end is None or start <= end


def _later(one: bytes | None, other: bytes | None) -> bytes | None:
    return None if one is None or other is None else max(one, other)
