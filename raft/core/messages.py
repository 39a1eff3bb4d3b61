"""What members say to each other. Every message has a sender, a receiver and a term (paper 5.1).

Values only. A message may be lost, late, repeated or out of order: nothing in the core relies
on its arriving.
"""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.types import Entry, MemberId, Proposal, SnapshotMeta
from raft.interface import Index, Term


@dataclass(slots=True)
class Envelope:
    """What all messages share. Treat as frozen: one value may be delivered twice."""

    sender: MemberId
    to: MemberId
    term: Term


@dataclass(slots=True)
class PreVoteRequest(Envelope):
    """Would you vote for me in `term`, which I have not begun? (thesis 9.6)"""

    last_index: Index
    last_term: Term


@dataclass(slots=True)
class PreVoteResponse(Envelope):
    """Granted: `term` is the one asked about. Refused: it is the sender's own."""

    granted: bool


@dataclass(slots=True)
class VoteRequest(Envelope):
    """RequestVote (paper 5.2); `transfer` says that the leader itself wants it (thesis 3.10)."""

    last_index: Index
    last_term: Term
    transfer: bool = False


@dataclass(slots=True)
class VoteResponse(Envelope):
    """The answer; a granted vote is durable before it leaves."""

    granted: bool


@dataclass(slots=True, init=False)
class AppendRequest(Envelope):
    """AppendEntries (paper 5.3)."""

    prev_index: Index
    prev_term: Term
    entries: tuple[Entry, ...]
    commit: Index

    def __init__(  # noqa: PLR0917
        self,
        sender: MemberId,
        to: MemberId,
        term: Term,
        prev_index: Index,
        prev_term: Term,
        entries: tuple[Entry, ...],
        commit: Index,
    ) -> None:
        self.sender = sender
        self.to = to
        self.term = term
        self.prev_index = prev_index
        self.prev_term = prev_term
        self.entries = entries
        self.commit = commit


@dataclass(slots=True, init=False)
class AppendResponse(Envelope):
    """The sender's log equals the leader's up to `index`, durably."""

    index: Index

    def __init__(self, sender: MemberId, to: MemberId, term: Term, index: Index) -> None:
        self.sender = sender
        self.to = to
        self.term = term
        self.index = index


@dataclass(slots=True)
class AppendRejected(Envelope):
    """No match at `index`; at best at `hint_index`, where the sender has `hint_term`."""

    index: Index
    hint_index: Index
    hint_term: Term


@dataclass(slots=True)
class Heartbeat(Envelope):
    """I lead `term`; `round` numbers the newest confirmation that reads wait for.

    A `quiet` one needs no answer.
    """

    commit: Index
    round: int
    quiet: bool = False


@dataclass(slots=True)
class HeartbeatResponse(Envelope):
    """When `round` had begun, the sender knew of no newer leader."""

    round: int


@dataclass(slots=True)
class InstallSnapshot(Envelope):
    """The snapshot's data has arrived beside this message, complete and verified (paper 7)."""

    snapshot: SnapshotMeta


@dataclass(slots=True)
class NewerTerm(Envelope):
    """Answer to a leader of the past: its term is over."""


@dataclass(slots=True)
class TimeoutNow(Envelope):
    """Campaign at once: the leader hands over (thesis 3.10)."""


@dataclass(slots=True, init=False)
class Forward(Envelope):
    """Proposals made at a follower. (sender, session, sequence) is used once."""

    session: int
    sequence: int
    proposals: tuple[Proposal, ...]

    def __init__(  # noqa: PLR0917
        self,
        sender: MemberId,
        to: MemberId,
        term: Term,
        session: int,
        sequence: int,
        proposals: tuple[Proposal, ...],
    ) -> None:
        self.sender = sender
        self.to = to
        self.term = term
        self.session = session
        self.sequence = sequence
        self.proposals = proposals


@dataclass(slots=True)
class ForwardRefused(Envelope):
    """The leader did not take `sequence` and never will."""

    session: int
    sequence: int


@dataclass(slots=True)
class ReadIndexRequest(Envelope):
    """Confirm all reads of this session up to `sequence` (thesis 6.4)."""

    session: int
    sequence: int


@dataclass(slots=True)
class ReadIndexResponse(Envelope):
    """Every read of this session up to `sequence` may be served once `index` is applied."""

    session: int
    sequence: int
    index: Index


Message = (
    AppendRequest
    | AppendResponse
    | Heartbeat
    | HeartbeatResponse
    | Forward
    | ReadIndexRequest
    | ReadIndexResponse
    | AppendRejected
    | ForwardRefused
    | PreVoteRequest
    | PreVoteResponse
    | VoteRequest
    | VoteResponse
    | InstallSnapshot
    | NewerTerm
    | TimeoutNow
)
