"""The vocabulary that all of `raft` and its users share: entries, members, snapshots, refusals.

Values only. "Thesis" is Ongaro, "Consensus: Bridging Theory and Practice".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType, Self

Index = NewType("Index", int)
"""Position in the log, from 1; 0 is "nothing yet"."""

Term = NewType("Term", int)

MemberId = NewType("MemberId", int)

NOBODY: Final = MemberId(0)
"""No member: no leader is known, no vote was cast."""

ENTRY_OVERHEAD_BYTES: Final = 16
"""What an entry counts beside its data wherever bytes are limited."""


class LogError(Exception):
    """The log cannot go on, or cannot be opened; one sentence for the operator."""


class ProposalDropped(Exception):
    """The proposal was not taken and never will be: it is safe to send again."""


class NoLeader(ProposalDropped):
    """No leader is known."""


class TooManyProposals(ProposalDropped):
    """The queue of proposals not yet durable is full."""


class NotLeader(ProposalDropped):
    """Only a leader can do this."""


class TransferInProgress(ProposalDropped):
    """The leader is handing over: it takes nothing new (thesis 3.10)."""


class ConfChangeRefused(ProposalDropped):
    """The change breaks a rule of membership; the text says which."""


class EntryKind(IntEnum):
    """What `Entry.data` is; stored and sent as this number."""

    NORMAL = 0
    CONF_CHANGE = 1


@dataclass(slots=True, init=False)
class Entry:
    """One place in the log. A new leader's first entry is NORMAL and has no data.

    Treat as frozen: one value is in many hands.
    """

    index: Index
    term: Term
    data: bytes
    kind: EntryKind

    def __init__(
        self, index: Index, term: Term, data: bytes, kind: EntryKind = EntryKind.NORMAL
    ) -> None:
        self.index = index
        self.term = term
        self.data = data
        self.kind = kind

    @property
    def size(self) -> int:
        """What it counts where bytes are limited."""
        return len(self.data) + ENTRY_OVERHEAD_BYTES


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
