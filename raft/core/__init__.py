"""The consensus algorithm as a pure state machine: inputs in, `Ready` out.

No clock, no I/O, no threads, no asyncio; randomness comes from the caller. `docs/raft.md` tells how
the parts fit. `Node` is the way in.
"""

from raft.core.node import CoreStatus, FollowerStatus, Node
from raft.core.ready import Ready, SnapshotOrder
from raft.core.types import (
    NOBODY,
    ChangeKind,
    Compacted,
    ConfChange,
    ConfChangeRefused,
    CoreOptions,
    Entry,
    EntryKind,
    HardState,
    InvariantBroken,
    MemberId,
    Membership,
    NotLeader,
    Proposal,
    ReadState,
    Role,
    SnapshotMeta,
    StartState,
    TooManyReads,
    TransferInProgress,
)

__all__ = [
    "NOBODY",
    "ChangeKind",
    "Compacted",
    "ConfChange",
    "ConfChangeRefused",
    "CoreOptions",
    "CoreStatus",
    "Entry",
    "EntryKind",
    "FollowerStatus",
    "HardState",
    "InvariantBroken",
    "MemberId",
    "Membership",
    "Node",
    "NotLeader",
    "Proposal",
    "ReadState",
    "Ready",
    "Role",
    "SnapshotMeta",
    "SnapshotOrder",
    "StartState",
    "TooManyReads",
    "TransferInProgress",
]
