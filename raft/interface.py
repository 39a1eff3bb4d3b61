"""The replicated log as its users see it: propose commands in, committed entries out.

`raft` never imports `kvshim`; whoever uses it hands in a `StateMachine`. The methods of
`ReplicatedLog` belong to the event loop unless they say otherwise; those of `StateMachine` are
called on the log's own thread, `apply` strictly in index order, with entries that are durable in
the local log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raft.types import (
    ConfChange,
    ConfChangeRefused,
    Entry,
    EntryKind,
    Index,
    LogError,
    MemberId,
    Membership,
    NoLeader,
    NotLeader,
    ProposalDropped,
    SnapshotMeta,
    Term,
    TooManyProposals,
    TransferInProgress,
)

__all__ = [
    "ConfChange",
    "ConfChangeRefused",
    "Entry",
    "EntryKind",
    "Index",
    "LogError",
    "LogStatus",
    "MemberId",
    "Membership",
    "NoLeader",
    "NotLeader",
    "ProposalDropped",
    "ReplicatedLog",
    "SnapshotMeta",
    "StateMachine",
    "Term",
    "TooManyProposals",
    "TransferInProgress",
]


@dataclass(slots=True, init=False)
class LogStatus:
    """A member's view of the log at one moment; ids are 0 when unknown.

    `matches` is what a leader knows of its followers: the last entry durable on each; empty on
    others. Treat as frozen: all threads see it.
    """

    member_id: int
    leader_id: int
    term: Term
    first_index: Index
    last_index: Index
    commit_index: Index
    membership: Membership
    matches: tuple[tuple[MemberId, Index], ...]

    def __init__(  # noqa: PLR0917
        self,
        member_id: int,
        leader_id: int,
        term: Term,
        first_index: Index,
        last_index: Index,
        commit_index: Index,
        membership: Membership,
        matches: tuple[tuple[MemberId, Index], ...] = (),
    ) -> None:
        self.member_id = member_id
        self.leader_id = leader_id
        self.term = term
        self.first_index = first_index
        self.last_index = last_index
        self.commit_index = commit_index
        self.membership = membership
        self.matches = matches

    @property
    def leads(self) -> bool:
        """Is this member the leader?"""
        return self.leader_id == self.member_id != 0


class StateMachine(Protocol):
    """What the log drives."""

    def apply(self, entries: Sequence[Entry]) -> None:
        """Take committed entries, in order, each exactly once; must not wait.

        It may apply at once what takes no longer than a moment: heartbeats wait for it. When their
        effects are committed, `ReplicatedLog.applied` is called. An entry of kind CONF_CHANGE
        holds a `ConfChange`, for the state machine's own list of members.
        """

    def applied_index(self) -> Index:
        """The last index whose effects are committed in the state machine's store."""

    def durable_index(self) -> Index:
        """The last index whose effects survive a power cut: the log may be cut behind it."""

    def pending_bytes(self) -> int:
        """Bytes of entries handed over and not yet applied; any thread."""

    def membership(self) -> Membership:
        """The members as of `applied_index`; read once, at the start."""

    def copy(self, path: Path) -> SnapshotMeta:
        """Write the store as of one moment to a new file. Any thread; raises `LogError`."""

    def accept(self, path: Path, snapshot: SnapshotMeta) -> int:
        """Check a snapshot's file and make it the next generation of the store, not yet in use.

        Returns the generation. Durable when it returns; doing it again is harmless. Raises
        `LogError` when the file does not hold `snapshot`.
        """

    def install(self, generation: int, snapshot: SnapshotMeta) -> None:
        """Go on from this generation: the log now begins behind `snapshot`; must not wait.

        Entries handed over before, up to its index, and not yet applied are forgotten;
        `ReplicatedLog.applied` is called with the snapshot's index once it is in use.
        """


class ReplicatedLog(Protocol):
    """One member's handle on the log."""

    async def start(self, machine: StateMachine) -> None:
        """Check the log against `machine.applied_index()`, replay what it lacks, then serve.

        Raises `LogError` when log and state machine do not fit together.
        """

    async def stop(self) -> None:
        """Hand leadership over, make everything proposed durable and end."""

    def propose(self, command: bytes) -> None:
        """Queue a command, forwarded if need be; its fate is seen by `StateMachine.apply`.

        Raises `ProposalDropped`. It is proposed at most once.
        """

    async def propose_change(self, change: ConfChange) -> None:
        """Queue a change of members; its fate is seen by `StateMachine.apply`.

        Returns when it was appended or forwarded. Raises `ProposalDropped`, among them
        `ConfChangeRefused` with the rule that it breaks.
        """

    async def transfer_leadership(self, to: MemberId) -> None:
        """Hand over to a voter and wait until it leads. Raises `ProposalDropped`, TimeoutError."""

    async def read_index(self) -> Index:
        """An index such that a state machine that applied it serves a linearizable read.

        Raises `NoLeader`, and does not wait for ever for one.
        """

    def read_index_now(self) -> Index | None:
        """What `read_index` would return if it can tell without asking anybody, else None."""

    def applied(self, index: Index) -> None:
        """The state machine's store holds the effects up to `index`; any thread."""

    def status(self) -> LogStatus:
        """The member's present view; any thread."""
