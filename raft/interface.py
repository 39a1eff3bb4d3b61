"""The replicated log as its users see it: propose commands in, committed entries out.

`raft` never imports `kvshim`; whoever uses it hands in a `StateMachine`. `propose` and
`read_index` belong to the event loop; `StateMachine.apply` is called on the log's own thread,
strictly in index order, with entries that are durable in the local log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

Index = NewType("Index", int)
"""Position in the log, from 1; 0 is "nothing yet"."""

Term = NewType("Term", int)


class LogError(Exception):
    """The log cannot go on, or cannot be opened; one sentence for the operator."""


class ProposalDropped(Exception):
    """The proposal was not taken and never will be: it is safe to send again."""


class NoLeader(ProposalDropped):
    """No leader is known."""


class TooManyProposals(ProposalDropped):
    """The queue of proposals not yet durable is full."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed entry. `data` is empty for the log's own entries, such as a new term's first."""

    index: Index
    term: Term
    data: bytes


@dataclass(frozen=True, slots=True)
class LogStatus:
    """A member's view of the log at one moment; ids are 0 when unknown."""

    member_id: int
    leader_id: int
    term: Term
    first_index: Index
    last_index: Index
    commit_index: Index


class StateMachine(Protocol):
    """What the log drives."""

    def apply(self, entries: Sequence[Entry]) -> None:
        """Take committed entries, in order, each exactly once. May block to slow the log down."""

    def applied_index(self) -> Index:
        """The last index whose effects are committed in the state machine's store."""

    def durable_index(self) -> Index:
        """The last index whose effects survive a power cut: the log may be cut behind it."""


class ReplicatedLog(Protocol):
    """One member's handle on the log."""

    async def start(self, machine: StateMachine) -> None:
        """Check the log against `machine.applied_index()`, replay what it lacks, then serve.

        Raises `LogError` when log and state machine do not fit together.
        """

    async def stop(self) -> None:
        """Make everything proposed durable, hand it over to the state machine and end."""

    def propose(self, command: bytes) -> None:
        """Queue a command; its fate is seen by `StateMachine.apply`. Raises `ProposalDropped`."""

    async def read_index(self) -> Index:
        """An index such that a state machine that applied it serves a linearizable read.

        Raises `NoLeader`, and does not wait for ever for one.
        """

    def status(self) -> LogStatus:
        """The member's present view."""
