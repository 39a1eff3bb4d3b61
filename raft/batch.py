"""What several Readies in a row want written, as one change of the log.

Pure: the thread that owns the log calls it, and `raft.storage` writes the result.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft.core.ready import Ready
from raft.core.types import HardState
from raft.interface import Entry, EntryKind, SnapshotMeta


class Batch:
    """First the log begins anew behind `snapshot`, if there is one; then `entries` replace
    everything from the first one's index on; the newest `hard_state` holds, None when unchanged.
    """

    def __init__(
        self,
        snapshot: SnapshotMeta | None = None,
        entries: Sequence[Entry] = (),
        hard_state: HardState | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.entries = entries
        self.hard_state = hard_state

    @property
    def changes_members(self) -> bool:
        """Is one of the entries a change of members?"""
        return any(entry.kind is not EntryKind.NORMAL for entry in self.entries)


def merged(readies: Sequence[Ready]) -> Batch:
    """All of them, which must come in the order of their numbers. Raises `ValueError`."""
    first, *others = readies
    batch = Batch(first.snapshot, first.entries, first.hard_state)
    for ready in others:
        hard_state = batch.hard_state if ready.hard_state is None else ready.hard_state
        if ready.snapshot is not None:
            batch = Batch(ready.snapshot, ready.entries, hard_state)
        else:
            batch = Batch(batch.snapshot, _put(batch.entries, ready.entries), hard_state)
    return batch


def _put(entries: Sequence[Entry], newer: Sequence[Entry]) -> Sequence[Entry]:
    """`entries`, replaced by the `newer` ones from the first one's index on."""
    if not entries or not newer:
        return newer or entries
    keep = newer[0].index - entries[0].index
    if keep > len(entries):
        raise ValueError(f"entry {newer[0].index} does not follow {entries[-1].index}")
    return [*entries[: max(keep, 0)], *newer]
