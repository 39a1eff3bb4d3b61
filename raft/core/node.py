"""One member of a cluster: inputs in, `Ready` out. No clock, no I/O, no threads.

The caller is the only owner: whatever thread or loop calls must be the only one at a time. Inputs
change the member at once and fill its outboxes; `ready` empties them. Every decision follows from
the inputs, their order and the seed of `random`, so that a run can be repeated exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, assert_never

from raft.core import election, forwarding, membership, read_index, replication
from raft.core import messages as msg
from raft.core.log import Log, LogView
from raft.core.progress import Flow
from raft.core.ready import Ready
from raft.core.replica import Outbox, Replica
from raft.core.types import (
    NOBODY,
    ConfChange,
    ConfChangeRefused,
    CoreOptions,
    EntryKind,
    InvariantBroken,
    MemberId,
    Membership,
    NotLeader,
    Proposal,
    Role,
    StartState,
)
from raft.interface import Index, LogStatus, Term

TICKS_ALONE: Final = 100
"""A leader without followers has nothing to do with time, and counts it now and then."""


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """What a leader knows of one member."""

    flow: Flow
    match: Index
    next: Index
    recent_active: bool


@dataclass(frozen=True, slots=True)
class CoreStatus:
    """A member's view; `followers` is empty unless it leads."""

    member_id: MemberId
    role: Role
    leader: MemberId
    term: Term
    vote: MemberId
    first_index: Index
    last_index: Index
    commit: Index
    applied: Index
    membership: Membership
    transferee: MemberId
    confirmed: bool
    """Leads, and an entry of its own term is committed."""
    followers: dict[MemberId, FollowerStatus]


@dataclass(slots=True)
class _OwnVote:
    number: int
    term: Term


class Node:
    """See the module."""

    def __init__(
        self, options: CoreOptions, storage: LogView, start: StartState, random: Random
    ) -> None:
        """Begin as a follower. Raises `LogError` when `start` and the log do not fit."""
        hard = start.hard_state
        log = Log(
            storage,
            commit=hard.commit,
            applied=start.applied,
            cache_bytes_max=options.cache_bytes_max,
        )
        if hard.term < log.last_term:
            raise InvariantBroken(f"the log is of term {log.last_term}, its state of {hard.term}")
        session = random.getrandbits(63)
        self._replica = Replica(
            options, random, log, start.membership, hard.term, hard.vote, session
        )
        self._told = hard
        self._told_role, self._told_leader = self._replica.role, self._replica.leader
        self._number = self._persisted = 0
        self._own_votes: deque[_OwnVote] = deque()
        self._handed_bytes: deque[tuple[Index, int]] = deque()

    # -- inputs

    def tick(self) -> None:
        """One tick of time has passed."""
        r = self._replica
        read_index.on_tick(r)
        if r.role is Role.LEADER:
            self._tick_leader()
        else:
            election.on_tick(r)

    def ticks_until_due(self) -> int:
        """At which tick from now something happens, if nothing else does; those before only count.

        May be too low, never too high.
        """
        r = self._replica
        if r.role is Role.LEADER:
            if len(r.progress) == 1:
                return TICKS_ALONE
            until = r.options.heartbeat_ticks - r.heartbeat_elapsed
            return max(1, min(until, r.options.election_ticks - r.election_elapsed))
        until = r.election_timeout - r.election_elapsed
        if until < 1 and not r.promotable and r.leader == NOBODY:
            until = r.options.election_ticks  # it only notes the silence
        if (retry := read_index.ticks_until_retry(r)) is not None:
            until = min(until, retry)
        return max(1, until)

    def step(self, message: msg.Message) -> None:
        """A message has arrived. Raises `InvariantBroken` when the member must stop."""
        r = self._replica
        if message.to != r.id:
            raise ValueError(f"a message for member {message.to} came to member {r.id}")
        if election.admit(r, message):
            _dispatch(r, message)

    def propose(self, proposals: Sequence[Proposal]) -> int:
        """Take commands, all or none: a leader appends, a follower forwards them in one message.

        Returns 0, or the sequence of the forward: when the leader does not take it, it is named
        in `Ready.refused`. Otherwise its fate is seen by what is applied; it is never sent again.
        Raises `ProposalDropped`.
        """
        return forwarding.propose(self._replica, proposals)

    def propose_change(self, change: ConfChange) -> int:
        """Propose a change of membership, like `propose`. Raises `ConfChangeRefused` too."""
        return self.propose([Proposal(change.encode(), EntryKind.CONF_CHANGE)])

    def read_index(self, context: int) -> None:
        """Ask for an index to read at; `context` comes back in `Ready.reads` or `reads_lost`.

        Raises `NoLeader` and `TooManyReads`.
        """
        read_index.ask(self._replica, context)

    def transfer_leadership(self, to: MemberId) -> None:
        """Hand over to a voter, within one election timeout or not at all (thesis 3.10)."""
        r = self._replica
        if r.role is not Role.LEADER:
            raise NotLeader("this member does not lead")
        if to in (r.id, r.transferee):
            return
        if to not in r.membership.voters:
            raise ConfChangeRefused(f"member {to} is no voter")
        r.election_elapsed = 0
        r.transferee, r.transfer_asked = to, False
        r.flush_due = True
        replication.hand_over(r)

    def campaign(self) -> None:
        """Do not wait for the election timeout."""
        election.campaign(self._replica)

    def report_unreachable(self, member: MemberId) -> None:
        """The connection to `member` broke: messages were lost."""
        replication.report_unreachable(self._replica, member)

    def report_snapshot(self, member: MemberId, *, arrived: bool) -> None:
        """A snapshot ordered by `Ready.snapshot_orders` has arrived, or has not."""
        replication.report_snapshot(self._replica, member, arrived=arrived)

    # -- output

    def has_ready(self) -> bool:
        """Is there anything to do?"""
        r, out = self._replica, self._replica.out
        return bool(
            out.messages
            or out.after_persist
            or out.reads
            or out.reads_lost
            or out.refused
            or out.snapshot_orders
            or r.flush_due
            or r.differs_from(self._told)
            or r.role is not self._told_role
            or r.leader != self._told_leader
            or r.log.has_unwritten()
            or r.log.has_applicable()
            or read_index.wants_flush(r)
        )

    def ready(self) -> Ready:
        """Take what is to be done; see the module `ready` for what the caller owes."""
        r = self._replica
        read_index.flush(r)
        if r.role is Role.LEADER and r.flush_due:
            replication.flush(r)
        self._number += 1
        hard_state = r.hard_state if r.differs_from(self._told) else None
        votes = r.term != self._told.term or r.vote != self._told.vote
        if votes and r.role is Role.CANDIDATE:
            self._own_votes.append(_OwnVote(self._number, r.term))
        if hard_state is not None:
            self._told = hard_state
        snapshot, entries = r.log.hand_over(self._number)
        committed = r.log.next_committed(r.options.apply_bytes_max)
        if committed:
            size = 0
            for entry in committed:
                size += len(entry.data)
                if entry.kind is EntryKind.CONF_CHANGE:
                    r.handed_changes.append((entry.index, entry.data))
            self._handed_bytes.append((committed[-1].index, size))
        out, r.out = r.out, Outbox()
        self._told_role, self._told_leader = r.role, r.leader
        return Ready(
            number=self._number,
            role=r.role,
            leader=r.leader,
            messages=tuple(out.messages),
            hard_state=hard_state,
            must_sync=votes or bool(entries) or snapshot is not None,
            entries=entries,
            snapshot=snapshot,
            after_persist=tuple(out.after_persist),
            committed=committed,
            snapshot_orders=tuple(out.snapshot_orders),
            reads=tuple(out.reads),
            reads_lost=tuple(out.reads_lost),
            refused=tuple(out.refused),
        )

    def persisted(self, number: int) -> None:
        """Everything the Readies up to `number` wanted written is durable."""
        if not self._persisted <= number <= self._number:
            raise ValueError(f"Ready {number} was never made, or is long done")
        self._persisted = number
        r = self._replica
        r.log.written(number)
        replication.on_stable(r)
        while self._own_votes and self._own_votes[0].number <= number:
            election.on_own_vote_durable(r, self._own_votes.popleft().term)

    def applied(self, index: Index) -> None:
        """The state machine has applied everything up to `index`; members change here."""
        r = self._replica
        r.log.applied_to(index)
        while self._handed_bytes and self._handed_bytes[0][0] <= index:
            _, size = self._handed_bytes.popleft()
            r.uncommitted_bytes = max(0, r.uncommitted_bytes - size)
        membership.on_applied(r, index)
        election.on_applied(r)

    @property
    def applied_index(self) -> Index:
        """How far the caller said that it applied."""
        return self._replica.log.applied

    @property
    def leads(self) -> bool:
        """Is it the leader of its term?"""
        return self._replica.role is Role.LEADER

    @property
    def following(self) -> tuple[MemberId, Term]:
        """The leader, if one is known, and the term, before they are on disk."""
        return self._replica.leader, self._replica.term

    @property
    def confirmed(self) -> bool:
        """Leads, and an entry of its own term is committed."""
        return self._replica.role is Role.LEADER and read_index.may_answer(self._replica)

    def log_status(self, leader: MemberId) -> LogStatus:
        """The present view for users of the log, who know the leader of the last Ready."""
        r = self._replica
        matches = [(member, progress.match) for member, progress in r.followers]
        return LogStatus(
            r.id,
            leader,
            r.term,
            r.log.first_index,
            r.log.last_index,
            r.log.commit,
            r.membership,
            tuple(matches),
        )

    def status(self) -> CoreStatus:
        """All of the present view."""
        r = self._replica
        return CoreStatus(
            member_id=r.id,
            role=r.role,
            leader=r.leader,
            term=r.term,
            vote=r.vote,
            first_index=r.log.first_index,
            last_index=r.log.last_index,
            commit=r.log.commit,
            applied=r.log.applied,
            membership=r.membership,
            transferee=r.transferee,
            confirmed=self.confirmed,
            followers={
                member: FollowerStatus(p.flow, p.match, p.next, p.recent_active)
                for member, p in r.progress.items()
            },
        )

    def _tick_leader(self) -> None:
        r = self._replica
        r.election_elapsed += 1
        r.heartbeat_elapsed += 1
        if r.election_elapsed >= r.options.election_ticks:
            r.election_elapsed = 0
            r.transferee, r.transfer_asked = NOBODY, False
            election.check_quorum(r)
        if r.role is Role.LEADER and r.heartbeat_elapsed >= r.options.heartbeat_ticks:
            r.heartbeat_elapsed = 0
            replication.send_heartbeats(r)


def _dispatch(r: Replica, m: msg.Message) -> None:
    match m:
        case msg.AppendRequest():
            replication.on_append_request(r, m)
        case msg.AppendResponse():
            replication.on_append_response(r, m)
        case msg.Heartbeat():
            replication.on_heartbeat(r, m)
        case msg.HeartbeatResponse():
            replication.on_heartbeat_response(r, m)
            read_index.on_heartbeat_response(r, m)
        case msg.Forward():
            forwarding.on_forward(r, m)
        case msg.ReadIndexRequest():
            read_index.on_request(r, m)
        case msg.ReadIndexResponse():
            read_index.on_response(r, m)
        case msg.AppendRejected():
            replication.on_append_rejected(r, m)
        case msg.ForwardRefused():
            forwarding.on_forward_refused(r, m)
        case msg.PreVoteRequest():
            election.on_pre_vote_request(r, m)
        case msg.PreVoteResponse():
            election.on_pre_vote_response(r, m)
        case msg.VoteRequest():
            election.on_vote_request(r, m)
        case msg.VoteResponse():
            election.on_vote_response(r, m)
        case msg.InstallSnapshot():
            replication.on_install_snapshot(r, m)
        case msg.NewerTerm():
            pass  # its term has done all
        case msg.TimeoutNow():
            election.on_timeout_now(r, m)
        case _:
            assert_never(m)
