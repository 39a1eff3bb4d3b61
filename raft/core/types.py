"""The vocabulary of the core: entries, durable state, membership, options, errors.

Values only: nothing here changes, waits or talks to anyone. Those made for each entry or Ready have
an `__init__` of their own or are tuples: a dataclass's own stays interpreted when the rest is
compiled. "Paper" in this package is Ongaro and Ousterhout, "In Search of an Understandable
Consensus Algorithm" (extended version); "thesis" is Ongaro, "Consensus: Bridging Theory and
Practice".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, NamedTuple

from raft.types import (
    ENTRY_OVERHEAD_BYTES,
    NOBODY,
    ChangeKind,
    ConfChange,
    ConfChangeRefused,
    Entry,
    EntryKind,
    Index,
    LogError,
    MemberId,
    Membership,
    NotLeader,
    SnapshotMeta,
    Term,
    TransferInProgress,
)

__all__ = [
    "ENTRY_OVERHEAD_BYTES",
    "NOBODY",
    "NO_INDEX",
    "NO_TERM",
    "ChangeKind",
    "Compacted",
    "ConfChange",
    "ConfChangeRefused",
    "CoreOptions",
    "Entry",
    "EntryKind",
    "HardState",
    "InvariantBroken",
    "MemberId",
    "Membership",
    "NotLeader",
    "Proposal",
    "ReadState",
    "Role",
    "SnapshotMeta",
    "StartState",
    "TooManyReads",
    "TransferInProgress",
]

NO_INDEX: Final = Index(0)
"""Before the first entry."""

NO_TERM: Final = Term(0)
"""Before the first election."""


class InvariantBroken(LogError):
    """Something that Raft excludes was seen: the member must stop, not go on."""


class Compacted(Exception):
    """The entry was cut from the log: only a snapshot holds its effect."""


class TooManyReads(Exception):
    """The queue of unconfirmed reads is full."""


@dataclass(slots=True, init=False)
class Proposal:
    """An entry that has no place in the log yet. Treat as frozen."""

    data: bytes
    kind: EntryKind

    def __init__(self, data: bytes, kind: EntryKind = EntryKind.NORMAL) -> None:
        self.data = data
        self.kind = kind


class HardState(NamedTuple):
    """What must survive a crash (paper, figure 2), and how far the log was known committed."""

    term: Term = NO_TERM
    vote: MemberId = NOBODY
    commit: Index = NO_INDEX


class Role(Enum):
    """What a member is in its term; PRE_CANDIDATE is of thesis 9.6."""

    FOLLOWER = auto()
    PRE_CANDIDATE = auto()
    CANDIDATE = auto()
    LEADER = auto()


@dataclass(slots=True, init=False)
class ReadState:
    """The read `context` is linearizable once the state machine has applied `index`."""

    context: int
    index: Index

    def __init__(self, context: int, index: Index) -> None:
        self.context = context
        self.index = index


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """Times in ticks, sizes in bytes. A tick's length is the caller's."""

    member_id: MemberId
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    append_bytes_max: int = 1 << 20
    inflight_messages_max: int = 256
    inflight_bytes_max: int = 16 << 20
    uncommitted_bytes_max: int = 64 << 20
    apply_bytes_max: int = 4 << 20
    cache_bytes_max: int = 32 << 20
    reads_max: int = 65_536
    sessions_max: int = 1_024
    promotion_lag_entries_max: int = 256

    def __post_init__(self) -> None:
        if self.member_id == NOBODY:
            raise ValueError("a member needs an id")
        if not 0 < self.heartbeat_ticks < self.election_ticks:
            raise ValueError("heartbeats must be more frequent than elections")


@dataclass(frozen=True, slots=True)
class StartState:
    """What a member remembers when it starts: `membership` is the one as of `applied`."""

    hard_state: HardState = field(default_factory=HardState)
    membership: Membership = field(default_factory=Membership)
    applied: Index = NO_INDEX
