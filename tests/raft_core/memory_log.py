"""A durable log in memory: what `Ready` asks to be written is here once it is written."""

from __future__ import annotations

from collections.abc import Sequence

from raft.core import Compacted, Entry
from raft.interface import Index, Term


class MemoryLog:
    """A `LogView` and its writer. The log begins behind (cut_index, cut_term)."""

    def __init__(self, cut_index: int = 0, cut_term: int = 0) -> None:
        self.cut = (Index(cut_index), Term(cut_term))
        self.kept: list[Entry] = []

    @property
    def first_index(self) -> Index:
        return Index(self.cut[0] + 1)

    @property
    def last_index(self) -> Index:
        return Index(self.cut[0] + len(self.kept))

    def term_at(self, index: Index) -> Term:
        if index == self.cut[0]:
            return self.cut[1]
        if index < self.cut[0]:
            raise Compacted(index)
        return self.kept[index - self.cut[0] - 1].term

    def entries(self, first: Index, last: Index, bytes_max: int) -> Sequence[Entry]:
        if first <= self.cut[0]:
            raise Compacted(first)
        found: list[Entry] = []
        size = 0
        for entry in self.kept[first - self.cut[0] - 1 : last - self.cut[0]]:
            size += entry.size
            if found and size > bytes_max:
                break
            found.append(entry)
        return found

    def write(self, entries: Sequence[Entry]) -> None:
        first = entries[0].index
        assert self.first_index <= first <= self.last_index + 1
        del self.kept[first - self.first_index :]
        self.kept.extend(entries)

    def compact(self, index: int) -> None:
        term = self.term_at(Index(index))
        del self.kept[: index - self.cut[0]]
        self.cut = (Index(index), term)

    def reset(self, index: Index, term: Term) -> None:
        self.kept.clear()
        self.cut = (index, term)

    def copy(self) -> MemoryLog:
        other = MemoryLog(*self.cut)
        other.kept = list(self.kept)
        return other
