"""Which watchers want this key: exact keys in a dict, ranges in sorted blocks.

Watchers of the same range form a group and share one entry. Entries are sorted by start and kept
in blocks that know their highest end, so a lookup skips every block that ends before the key: with
the usual, mostly disjoint prefixes it scans one or two blocks, and memory is linear for any ranges.
No locks: an index belongs to whoever made it (the hub's to the event loop).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from kvshim.types import KeyRange

BLOCK_ENTRIES_MAX = 64

T = TypeVar("T")

Group: TypeAlias = dict[T, None]
"""The members of one range, in the order they came."""


class _Entry(NamedTuple):
    """A range in an order that tuples can be compared in: an unbounded end sorts last."""

    start: bytes
    unbounded: bool
    end: bytes


def _entry(keys: KeyRange) -> _Entry:
    return _Entry(keys.start, keys.end is None, keys.end or b"")


@dataclass(slots=True)
class _Block:
    entries: list[_Entry] = field(default_factory=list)
    unbounded: bool = False
    highest_end: bytes = b""

    def measure(self) -> None:
        self.unbounded = any(entry.unbounded for entry in self.entries)
        self.highest_end = max((entry.end for entry in self.entries), default=b"")

    def widen(self, entry: _Entry) -> None:
        self.unbounded |= entry.unbounded
        self.highest_end = max(self.highest_end, entry.end)


class KeyIndex(Generic[T]):
    """A set of (range, member) pairs that answers which groups' ranges hold a key."""

    __slots__ = ("_blocks", "_firsts", "_ranges", "_singles", "_size")

    def __init__(self) -> None:
        self._singles: dict[bytes, Group[T]] = {}
        self._ranges: dict[_Entry, Group[T]] = {}
        self._blocks: list[_Block] = []
        self._firsts: list[_Entry] = []  # the lowest entry of each block
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        for group in (*self._singles.values(), *self._ranges.values()):
            yield from group

    def add(self, keys: KeyRange, member: T) -> None:
        """Put a member that is not in yet under its range."""
        if keys.is_single:
            self._singles.setdefault(keys.start, {})[member] = None
        else:
            entry = _entry(keys)
            members = self._ranges.get(entry)
            if members is None:
                members = self._ranges[entry] = {}
                self._insert(entry)
            members[member] = None
        self._size += 1

    def remove(self, keys: KeyRange, member: T) -> None:
        """Take out a member put in under the same range."""
        if keys.is_single:
            members = self._singles[keys.start]
            del members[member]
            if not members:
                del self._singles[keys.start]
        else:
            entry = _entry(keys)
            members = self._ranges[entry]
            del members[member]
            if not members:
                del self._ranges[entry]
                self._delete(entry)
        self._size -= 1

    def groups(self, key: bytes) -> list[Group[T]]:
        """The members whose range holds the key, by range, in no particular order.

        A group is the index's own: it changes with it and is the same object for every key.
        """
        found: list[Group[T]] = []
        if (members := self._singles.get(key)) is not None:
            found.append(members)
        ranges = self._ranges
        for block in self._blocks:
            if block.entries[0].start > key:
                break
            if not block.unbounded and block.highest_end <= key:
                continue
            for entry in block.entries:
                start, unbounded, end = entry
                if start > key:
                    break
                if unbounded or end > key:
                    found.append(ranges[entry])
        return found

    def _insert(self, entry: _Entry) -> None:
        if not self._blocks:
            self._blocks.append(_Block())
            self._firsts.append(entry)
        at = max(bisect_right(self._firsts, entry) - 1, 0)
        block = self._blocks[at]
        insort(block.entries, entry)
        block.widen(entry)
        if len(block.entries) > BLOCK_ENTRIES_MAX:
            self._replace(at, _halves(block.entries))
        else:
            self._firsts[at] = block.entries[0]

    def _delete(self, entry: _Entry) -> None:
        at = bisect_right(self._firsts, entry) - 1
        entries = self._blocks[at].entries
        del entries[bisect_left(entries, entry)]
        self._replace(at, [entries] if entries else [])

    def _replace(self, at: int, lists: Iterable[list[_Entry]]) -> None:
        blocks = [_Block(entries) for entries in lists]
        for block in blocks:
            block.measure()
        self._blocks[at : at + 1] = blocks
        self._firsts[at : at + 1] = [block.entries[0] for block in blocks]


def _halves(entries: list[_Entry]) -> list[list[_Entry]]:
    middle = len(entries) // 2
    return [entries[:middle], entries[middle:]]
