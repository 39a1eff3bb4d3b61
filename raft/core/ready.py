"""What the core asks of its caller: one `Ready` after another, in order.

The caller owes each of them, in this order:

1. `messages` may leave at once, even before anything is written (thesis 10.2.1);
2. `snapshot`, then `entries` and `hard_state`, as one atomic, durable write (entries replace
   everything from the first one's index on); a commit index must never lag behind entries that
   were written with it (see `membership`);
3. `after_persist` leaves only now, and `persisted(number)` is called;
4. `committed` is applied in order, in any thread; `applied(index)` follows.

Several Readies may be in flight: writes may overlap with steps, but not overtake each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.messages import Message
from raft.core.types import Entry, HardState, MemberId, ReadState, Role, SnapshotMeta
from raft.interface import Index, Term


@dataclass(frozen=True, slots=True)
class SnapshotOrder:
    """Send `to` a snapshot that holds at least `index`, then an `InstallSnapshot` of `term`.

    Tell the outcome by `report_snapshot`.
    """

    to: MemberId
    term: Term
    index: Index


class Ready:
    """See the module. `hard_state` is None when unchanged."""

    def __init__(
        self,
        *,
        number: int,
        role: Role,
        leader: MemberId,
        messages: tuple[Message, ...],
        hard_state: HardState | None,
        must_sync: bool,
        entries: tuple[Entry, ...],
        snapshot: SnapshotMeta | None,
        after_persist: tuple[Message, ...],
        committed: tuple[Entry, ...],
        snapshot_orders: tuple[SnapshotOrder, ...],
        reads: tuple[ReadState, ...],
        reads_lost: tuple[int, ...],
        refused: tuple[int, ...],
    ) -> None:
        self.number = number
        self.role = role
        self.leader = leader
        self.messages = messages
        self.hard_state = hard_state
        self.must_sync = must_sync
        self.entries = entries
        self.snapshot = snapshot
        self.after_persist = after_persist
        self.committed = committed
        self.snapshot_orders = snapshot_orders
        self.reads = reads
        self.reads_lost = reads_lost
        """Contexts of reads that were not confirmed: the leader changed. Safe to ask again."""
        self.refused = refused
        """Sequences of forwarded proposals that the leader did not take. Safe to propose again."""

    @property
    def writes(self) -> bool:
        """Is there anything to persist?"""
        return bool(self.entries) or self.hard_state is not None or self.snapshot is not None
