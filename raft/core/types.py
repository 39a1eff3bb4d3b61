"""The vocabulary of the core: entries, durable state, membership, options, errors.

Values only: nothing here changes, waits or talks to anyone. "Paper" in this package is Ongaro and
Ousterhout, "In Search of an Understandable Consensus Algorithm" (extended version); "thesis" is
Ongaro, "Consensus: Bridging Theory and Practice".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import Final, NewType, Self

from raft.interface import Index, LogError, ProposalDropped, Term

MemberId = NewType("MemberId", int)

NOBODY: Final = MemberId(0)
"""No member: no leader is known, no vote was cast."""

NO_INDEX: Final = Index(0)
"""Before the first entry."""

NO_TERM: Final = Term(0)
"""Before the first election."""

ENTRY_OVERHEAD_BYTES: Final = 16
"""What an entry counts beside its data wherever bytes are limited."""


class InvariantBroken(LogError):
    """Something that Raft excludes was seen: the member must stop, not go on."""


class Compacted(Exception):
    """The entry was cut from the log: only a snapshot holds its effect."""


class NotLeader(ProposalDropped):
    """Only a leader can do this."""


class TransferInProgress(ProposalDropped):
    """The leader is handing over: it takes nothing new (thesis 3.10)."""


class ConfChangeRefused(ProposalDropped):
    """The change breaks a rule of membership; the text says which."""


class TooManyReads(Exception):
    """The queue of unconfirmed reads is full."""


class EntryKind(IntEnum):
    """What `Entry.data` is; stored and sent as this number."""

    NORMAL = 0
    CONF_CHANGE = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in the log. A new leader's first entry is NORMAL and has no data."""

    index: Index
    term: Term
    data: bytes
    kind: EntryKind = EntryKind.NORMAL

    @property
    def size(self) -> int:
        """What it counts where bytes are limited."""
        return len(self.data) + ENTRY_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Proposal:
    """An entry that has no place in the log yet."""

    data: bytes
    kind: EntryKind = EntryKind.NORMAL


@dataclass(frozen=True, slots=True)
class HardState:
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


class ChangeKind(IntEnum):
    """One step of membership (thesis 4.1); stored in the log as this number."""

    ADD_LEARNER = 1
    ADD_VOTER = 2
    PROMOTE = 3
    DEMOTE = 4
    REMOVE = 5


@dataclass(frozen=True, slots=True)
class ConfChange:
    """One member changes. `context` is the user's own, such as the member's addresses."""

    kind: ChangeKind
    member: MemberId
    context: bytes = b""

    def encode(self) -> bytes:
        """As an entry's data."""
        return _CHANGE.pack(self.kind, self.member) + self.context

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """From an entry's data."""
        kind, member = _CHANGE.unpack_from(data)
        return cls(ChangeKind(kind), MemberId(member), data[_CHANGE.size :])


_CHANGE: Final = struct.Struct(">BQ")


@dataclass(frozen=True, slots=True)
class Membership:
    """Who votes, and who is only sent the log."""

    voters: frozenset[MemberId] = frozenset()
    learners: frozenset[MemberId] = frozenset()

    @classmethod
    def of(cls, voters: Iterable[int], learners: Iterable[int] = ()) -> Self:
        """From plain numbers."""
        return cls(frozenset(map(MemberId, voters)), frozenset(map(MemberId, learners)))

    @property
    def members(self) -> list[MemberId]:
        """All, in order."""
        return sorted(self.voters | self.learners)

    @property
    def majority(self) -> int:
        """How many voters decide."""
        return len(self.voters) // 2 + 1

    def after(self, change: ConfChange) -> Membership:
        """The membership that follows. Raises `ConfChangeRefused`.

        Only one voter comes or goes, so that any majority before shares a member with any
        majority after (thesis 4.1).
        """
        member, voters, learners = change.member, self.voters, self.learners
        alone = frozenset((member,))
        known = member in voters or member in learners
        match change.kind:
            case ChangeKind.ADD_LEARNER | ChangeKind.ADD_VOTER if member == NOBODY or known:
                raise ConfChangeRefused(f"member {member} is in the cluster already")
            case ChangeKind.ADD_LEARNER:
                return Membership(voters, learners | alone)
            case ChangeKind.ADD_VOTER:
                return Membership(voters | alone, learners)
            case ChangeKind.PROMOTE if member not in learners:
                raise ConfChangeRefused(f"member {member} is no learner")
            case ChangeKind.PROMOTE:
                return Membership(voters | alone, learners - alone)
            case ChangeKind.DEMOTE if member not in voters:
                raise ConfChangeRefused(f"member {member} is no voter")
            case ChangeKind.REMOVE if not known:
                raise ConfChangeRefused(f"member {member} is not in the cluster")
            case ChangeKind.DEMOTE | ChangeKind.REMOVE if voters == alone:
                raise ConfChangeRefused(f"member {member} is the last voter")
            case ChangeKind.DEMOTE:
                return Membership(voters - alone, learners | alone)
            case ChangeKind.REMOVE:
                return Membership(voters - alone, learners - alone)


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """What a snapshot stands for: everything up to `index`, and who was a member then."""

    index: Index
    term: Term
    membership: Membership


@dataclass(frozen=True, slots=True)
class ReadState:
    """The read `context` is linearizable once the state machine has applied `index`."""

    context: int
    index: Index


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
