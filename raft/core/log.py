"""The log as Raft sees it: what is durable behind a small protocol, and a tail in memory.

    storage (durable)            tail (memory)
    1 ........... offset-1 | offset .. stable .. handed .. last
                                         applied <= applying <= min(commit, stable)

The tail holds everything not yet known durable, and as much before that as the cache allows: what
followers are sent and what is applied was usually just appended. `handed` was given to the caller
to write; `stable` is written. An entry is applied only once it is durable here, even when a
quorum has it, so that a restarted state machine is never ahead of its log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from raft.core.types import Compacted, Entry, InvariantBroken, SnapshotMeta
from raft.interface import Index, Term


class LogView(Protocol):
    """The durable log, read only. The core writes nothing: the caller does, from `Ready`."""

    @property
    def first_index(self) -> Index:
        """The oldest entry that was not cut."""

    @property
    def last_index(self) -> Index:
        """The newest entry; first_index - 1 when there is none."""

    def term_at(self, index: Index) -> Term:
        """The term of an entry from first_index - 1 on. Raises `Compacted`."""

    def entries(self, first: Index, last: Index, bytes_max: int) -> Sequence[Entry]:
        """Entries first..last, fewer if they pass `bytes_max`, at least one. `Compacted`."""


class _Write:
    """Entries up to `last` are being written by the Ready `number`."""

    def __init__(self, number: int, last: Index, snapshot: SnapshotMeta | None) -> None:
        self.number = number
        self.last = last
        self.snapshot = snapshot


class Log:
    """One member's log. Nothing is ever removed before `commit`."""

    def __init__(
        self, storage: LogView, *, commit: Index, applied: Index, cache_bytes_max: int
    ) -> None:
        last = storage.last_index
        if not storage.first_index - 1 <= applied <= last:
            raise InvariantBroken(
                f"entry {applied} was applied, but the log holds {storage.first_index} to {last}"
            )
        if commit > last:
            raise InvariantBroken(f"entry {commit} was committed, but the log ends at {last}")
        self._storage = storage
        self._cache_bytes_max = cache_bytes_max
        self._tail: list[Entry] = []
        self._tail_bytes = 0
        self._offset = Index(last + 1)
        self._base = (last, storage.term_at(last))
        self._writes: deque[_Write] = deque()
        self._snapshot: SnapshotMeta | None = None
        self._snapshot_handed = False
        self.commit = max(commit, applied)
        self.applied = self.applying = applied
        self.stable = self.handed = last

    @property
    def first_index(self) -> Index:
        """The oldest entry that can be read."""
        if self._snapshot is not None:
            return Index(self._snapshot.index + 1)
        return self._storage.first_index

    @property
    def last_index(self) -> Index:
        """The newest entry, durable or not."""
        return Index(self._offset + len(self._tail) - 1)

    @property
    def last_term(self) -> Term:
        """The term of the newest entry."""
        return self._tail[-1].term if self._tail else self.term_at(self.last_index)

    @property
    def installing(self) -> bool:
        """A snapshot replaces the log and is not durable yet."""
        return self._snapshot is not None

    def term_at(self, index: Index) -> Term:
        """The term at `index`; raises `Compacted`, or `InvariantBroken` beyond the end."""
        if index >= self._offset:
            if index > self.last_index:
                raise InvariantBroken(f"there is no entry {index} yet")
            return self._tail[index - self._offset].term
        if index == self._base[0]:
            return self._base[1]
        if index < self.first_index - 1:
            raise Compacted(f"entry {index} was cut")
        return self._storage.term_at(index)

    def matches(self, index: Index, term: Term) -> bool:
        """Is there an entry of that term at that index? (paper 5.3, consistency check)"""
        try:
            return index <= self.last_index and self.term_at(index) == term
        except Compacted:
            return False

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Is a log that ends so at least as complete as this one? (paper 5.4.1)"""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def entries(self, first: Index, last: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Entries from `first` on, at most to `last`, at least one. Raises `Compacted`.

        Ends early at the border of storage and tail: ask again for the rest.
        """
        if first > last:
            return ()
        if first < self._offset:
            if first < self.first_index:
                raise Compacted(f"entry {first} was cut")
            end = Index(min(last, self._offset - 1))
            return tuple(self._storage.entries(first, end, bytes_max))
        start = stop = first - self._offset
        end_position = last - self._offset + 1
        size = 0
        while stop < end_position:
            size += self._tail[stop].size
            if size > bytes_max and stop > start:
                break
            stop += 1
        return tuple(self._tail[start:stop])

    def append(self, entries: Sequence[Entry]) -> None:
        """Put new entries at the end."""
        if entries[0].index != self.last_index + 1:
            raise InvariantBroken(f"entry {entries[0].index} does not follow {self.last_index}")
        self._tail.extend(entries)
        self._tail_bytes += sum(entry.size for entry in entries)

    def merge(self, entries: Sequence[Entry]) -> None:
        """Take a leader's entries: skip what is here, replace from the first conflict on.

        An entry in conflict is removed with all that follow it; what agrees stays, even beyond
        the last one sent, because an older request may come late (paper 5.3, figure 2).
        """
        for position, entry in enumerate(entries):
            if not self.matches(entry.index, entry.term):
                if entry.index <= self.last_index:
                    self.truncate(entry.index)
                self.append(entries[position:])
                return

    def truncate(self, index: Index) -> None:
        """Remove `index` and everything after it."""
        if index <= self.commit:
            raise InvariantBroken(f"entry {index} is committed up to {self.commit}, not to remove")
        before = Index(index - 1)
        if index < self._offset:
            self._base = (before, self.term_at(before))
            self._tail.clear()
            self._tail_bytes = 0
            self._offset = index
        else:
            removed = self._tail[index - self._offset :]
            del self._tail[index - self._offset :]
            self._tail_bytes -= sum(entry.size for entry in removed)
        self.stable = min(self.stable, before)
        self.handed = min(self.handed, before)
        # A write in flight may end later: what it wrote from here on is no longer this log.
        for write in self._writes:
            write.last = min(write.last, before)

    def conflict_hint(self, index: Index, term: Term) -> tuple[Index, Term]:
        """The last place at or before `index` whose term is at most `term` (paper 5.3, end).

        Terms never fall along a log, so no later place can match a log that has `term` there:
        one probe a term instead of one an entry.
        """
        try:
            while (here := self.term_at(index)) > term:
                index = Index(index - 1)
        except Compacted:
            return index, Term(0)
        return index, here

    def commit_to(self, index: Index) -> bool:
        """Move the commit index forward; True when it moved."""
        if index <= self.commit:
            return False
        if index > self.last_index:
            raise InvariantBroken(
                f"entry {index} is committed, but this log ends at {self.last_index}: it lost data"
            )
        self.commit = index
        return True

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Forget everything: the log begins anew behind a snapshot (paper 7)."""
        self._tail.clear()
        self._tail_bytes = 0
        self._offset = Index(snapshot.index + 1)
        self._base = (snapshot.index, snapshot.term)
        for write in self._writes:
            write.last = Index(0)
        self._snapshot = snapshot
        self._snapshot_handed = False
        self.commit = self.stable = self.handed = snapshot.index

    # -- what the caller writes and applies

    def has_unwritten(self) -> bool:
        """Is there something that was not handed over to be written?"""
        pending = self._snapshot is not None and not self._snapshot_handed
        return pending or self.handed < self.last_index

    def hand_over(self, number: int) -> tuple[SnapshotMeta | None, tuple[Entry, ...]]:
        """What the Ready `number` shall write."""
        snapshot = None if self._snapshot_handed else self._snapshot
        self._snapshot_handed = self._snapshot is not None
        entries = tuple(self._tail[self.handed + 1 - self._offset :])
        self.handed = self.last_index
        if snapshot is not None or entries:
            self._writes.append(_Write(number, self.handed, snapshot))
        return snapshot, entries

    def written(self, number: int) -> SnapshotMeta | None:
        """Everything up to the Ready `number` is durable; returns a snapshot now in place."""
        installed = None
        while self._writes and self._writes[0].number <= number:
            write = self._writes.popleft()
            self.stable = max(self.stable, write.last)
            if write.snapshot is not None and write.snapshot is self._snapshot:
                installed, self._snapshot = write.snapshot, None
                self.applied = self.applying = installed.index
        return installed

    def has_applicable(self) -> bool:
        """Is there something to apply that was not handed over?"""
        return self._snapshot is None and self.applying < min(self.commit, self.stable)

    def next_committed(self, bytes_max: int) -> tuple[Entry, ...]:
        """The next entries to apply: committed, and durable here."""
        if not self.has_applicable():
            return ()
        end = min(self.commit, self.stable)
        entries = self.entries(Index(self.applying + 1), end, bytes_max)
        self.applying = entries[-1].index
        return entries

    def applied_to(self, index: Index) -> None:
        """The state machine has applied `index`."""
        if index <= self.applied:
            return
        if index > self.applying:
            raise InvariantBroken(f"entry {index} was applied before it was handed over")
        self.applied = index
        self._trim()

    def _trim(self) -> None:
        """Let go of the older half of a cache that is too large, where it is durable."""
        if self._tail_bytes <= self._cache_bytes_max:
            return
        count, size = 0, 0
        for entry in self._tail:
            if size * 2 > self._tail_bytes or entry.index >= min(self.stable, self.applied):
                break
            count, size = count + 1, size + entry.size
        if count:
            last = self._tail[count - 1]
            self._base = (last.index, last.term)
            del self._tail[:count]
            self._tail_bytes -= size
            self._offset = Index(last.index + 1)
