"""Everything one member knows, and the steps between its roles.

The rules live beside it: `election`, `replication`, `read_index`, `membership`, `forwarding`.
They are functions on a `Replica`; `node` calls them and turns what they leave in the outboxes into
a Ready.

    from \\ to        FOLLOWER  PRE_CANDIDATE  CANDIDATE  LEADER
    FOLLOWER            x          x             x (1)
    PRE_CANDIDATE       x          x             x
    CANDIDATE           x          x             x (1)      x
    LEADER              x
    (1) without asking first only on the leader's own wish, TimeoutNow
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Final

from raft.core.log import Log
from raft.core.messages import Message
from raft.core.progress import Inflights, Progress
from raft.core.ready import SnapshotOrder
from raft.core.types import (
    NO_INDEX,
    NO_TERM,
    NOBODY,
    CoreOptions,
    EntryKind,
    HardState,
    InvariantBroken,
    MemberId,
    Membership,
    ReadState,
    Role,
)
from raft.interface import Index, Term

_STEPS: Final = {
    Role.FOLLOWER: {Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE},
    Role.PRE_CANDIDATE: {Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE},
    Role.CANDIDATE: {Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER},
    Role.LEADER: {Role.FOLLOWER},
}


@dataclass(slots=True)
class Reads:
    """Reads that wait for a confirmed index; see `read_index`."""

    incoming: list[int] = field(default_factory=list)
    """Asked here since the last Ready."""
    asked: deque[tuple[int, list[int]]] = field(default_factory=deque)
    """Sent to the leader: (sequence, contexts)."""
    sequence: int = 0
    retry_ticks: int = 0
    remote: dict[tuple[MemberId, int], int] = field(default_factory=dict)
    """Asked by followers since the last Ready: (member, session) -> highest sequence."""
    round: int = 0
    rounds: deque[Round] = field(default_factory=deque)
    acks: dict[MemberId, int] = field(default_factory=dict)
    count: int = 0
    """Contexts in `incoming`, `asked` and `rounds` together."""


@dataclass(slots=True)
class Round:
    """Reads that one round of heartbeats confirms, all at `index`."""

    number: int
    index: Index
    local: list[int]
    remote: dict[tuple[MemberId, int], int]


class Outbox:
    """What the next Ready will hold."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.after_persist: list[Message] = []
        self.snapshot_orders: list[SnapshotOrder] = []
        self.reads: list[ReadState] = []
        self.reads_lost: list[int] = []
        self.refused: list[int] = []


@dataclass(slots=True)
class Replica:
    """See the module. Only this package changes it."""

    options: CoreOptions
    random: Random
    log: Log
    membership: Membership
    term: Term
    vote: MemberId
    session: int
    id: MemberId = field(init=False)
    role: Role = Role.FOLLOWER
    leader: MemberId = NOBODY
    votes: dict[MemberId, bool] = field(default_factory=dict)
    progress: dict[MemberId, Progress] = field(default_factory=dict)
    """Of a leader: all members, in order."""
    reads: Reads = field(default_factory=Reads)
    out: Outbox = field(default_factory=Outbox)
    election_elapsed: int = 0
    heartbeat_elapsed: int = 0
    election_timeout: int = 0
    transferee: MemberId = NOBODY
    transfer_asked: bool = False
    stand_after_change: bool = False
    """The leader handed over to this member, which has a change of membership to apply first."""
    flush_due: bool = False
    term_start: Index = NO_INDEX
    """A leader's own first entry: reads and membership wait for it."""
    pending_change: Index = NO_INDEX
    """A leader's newest membership entry: the next waits until this one is applied."""
    handed_changes: deque[tuple[Index, bytes]] = field(default_factory=deque)
    uncommitted_bytes: int = 0
    forward_sequence: int = 0
    forwards_seen: dict[tuple[MemberId, int], int] = field(default_factory=dict)
    forwards_term: Term = NO_TERM
    """Of the terms up to this one, at most what was taken as its leader is remembered."""
    forwards_kept: bool = False
    """Did this life of the member lead `forwards_term`? Then `forwards_seen` is all it took."""

    def __post_init__(self) -> None:
        self.id = self.options.member_id
        self.forwards_term = self.term  # an earlier life may have led up to here
        self.restart_election_timer()

    @property
    def hard_state(self) -> HardState:
        """As it should be on disk."""
        return HardState(self.term, self.vote, self.log.commit)

    def differs_from(self, told: HardState) -> bool:
        """Should something else be on disk?"""
        return self.term != told.term or self.vote != told.vote or self.log.commit != told.commit

    @property
    def promotable(self) -> bool:
        """May this member campaign at all?"""
        return self.id in self.membership.voters and not self.log.installing

    @property
    def followers(self) -> list[tuple[MemberId, Progress]]:
        """Of a leader: all members but itself, in order."""
        return [(member, known) for member, known in self.progress.items() if member != self.id]

    def send(self, message: Message) -> None:
        """Let it leave with the next Ready, at once."""
        self.out.messages.append(message)

    def send_after_persist(self, message: Message) -> None:
        """Let it leave when all that was decided before it is durable (thesis 3.8)."""
        self.out.after_persist.append(message)

    def restart_election_timer(self) -> None:
        """Wait again, a random time of one to two timeouts (paper 5.2)."""
        self.election_elapsed = 0
        span = self.options.election_ticks
        self.election_timeout = span + self.random.randrange(span)

    def become_follower(self, term: Term, leader: MemberId) -> None:
        """Follow `leader`, or nobody yet, in `term`."""
        self._become(Role.FOLLOWER)
        if term < self.term:
            raise InvariantBroken(f"term {term} lies before {self.term}")
        if term > self.term:
            self.term, self.vote = term, NOBODY
        self._forget_term(leader)

    def become_pre_candidate(self) -> None:
        """Ask around before disturbing anyone: neither term nor vote change (thesis 9.6)."""
        self._become(Role.PRE_CANDIDATE)
        self._forget_term(NOBODY)

    def become_candidate(self) -> None:
        """Begin the next term and vote for oneself (paper 5.2)."""
        self._become(Role.CANDIDATE)
        self.term = Term(self.term + 1)
        self.vote = self.id
        self._forget_term(NOBODY)

    def become_leader(self) -> None:
        """Lead this term. Every follower is probed at the log's end (paper 5.3)."""
        self._become(Role.LEADER)
        self._forget_term(self.id)
        for member in self.membership.members:
            self.progress[member] = self.new_progress()
        self.forwards_seen, self.forwards_term, self.forwards_kept = {}, self.term, True
        own = self.progress[self.id]
        own.become_replicate()
        own.match, own.recent_active = self.log.stable, True

    def new_progress(self) -> Progress:
        """For a follower of whom nothing is known: try the log's end first."""
        limits = Inflights(self.options.inflight_messages_max, self.options.inflight_bytes_max)
        return Progress(limits, next=Index(self.log.last_index + 1))

    def has_unapplied_change(self) -> bool:
        """Is there a membership entry that is committed here but not yet in effect?"""
        if self.handed_changes:
            return True
        index = Index(self.log.applying + 1)
        while index <= self.log.commit:
            entries = self.log.entries(index, self.log.commit, self.options.apply_bytes_max)
            if any(entry.kind is EntryKind.CONF_CHANGE for entry in entries):
                return True
            index = Index(entries[-1].index + 1)
        return False

    def _become(self, role: Role) -> None:
        if role not in _STEPS[self.role]:
            raise InvariantBroken(f"a {self.role.name} cannot become {role.name}")
        self.role = role

    def _forget_term(self, leader: MemberId) -> None:
        """Drop what was true only for the term, leader or role that ended."""
        if leader == NOBODY or leader != self.leader:
            self._lose_reads()
        self.leader = leader
        self.votes = {}
        self.progress = {}
        self.transferee = NOBODY
        self.transfer_asked = False
        self.stand_after_change = False
        self.flush_due = False
        self.uncommitted_bytes = 0
        self.term_start = self.pending_change = NO_INDEX
        self.heartbeat_elapsed = 0
        self.restart_election_timer()

    def _lose_reads(self) -> None:
        """Reads in flight to or at the former leader will not be confirmed."""
        reads, lost = self.reads, self.out.reads_lost
        for _, contexts in reads.asked:
            lost.extend(contexts)
        for waiting in reads.rounds:
            lost.extend(waiting.local)
        self.reads = Reads(reads.incoming, sequence=reads.sequence, count=len(reads.incoming))
