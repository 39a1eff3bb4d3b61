"""What several Readies in a row want written, as one change of the log.

Pure: the thread that owns the log calls it, and `raft.storage` writes the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from raft.core.ready import Ready
from raft.core.types import HardState
from raft.interface import Entry, EntryKind, SnapshotMeta


@dataclass(slots=True)
class Batch:
    """First the log begins anew behind `snapshot`, if there is one; then `entries` replace
    everything from the first one's index on; the newest `hard_state` holds, None when unchanged.
    """

    snapshot: SnapshotMeta | None = None
    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState | None = None

    @property
    def changes_members(self) -> bool:
        """Is one of the entries a change of members?"""
        return any(entry.kind is not EntryKind.NORMAL for entry in self.entries)


def merged(readies: Sequence[Ready]) -> Batch:
    """All of them, which must come in the order of their numbers. Raises `ValueError`."""
    batch = Batch()
    for ready in readies:
        if ready.snapshot is not None:
            batch.snapshot = ready.snapshot
            batch.entries = []
        if ready.entries:
            _put(batch.entries, ready.entries)
        if ready.hard_state is not None:
            batch.hard_state = ready.hard_state
    return batch


def _put(entries: list[Entry], newer: Sequence[Entry]) -> None:
    if entries:
        keep = newer[0].index - entries[0].index
        if keep > len(entries):
            raise ValueError(f"entry {newer[0].index} does not follow {entries[-1].index}")
        del entries[max(keep, 0) :]
    entries.extend(newer)
