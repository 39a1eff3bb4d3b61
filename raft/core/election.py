"""Who leads: votes, pre-votes, the leader's lease, and what a term in a message does.

a message's term is   it carries                          then
newer                 a vote request, lease not over      ignored (thesis 4.2.3, 6.4.1)
                      a pre-vote, asked or granted        the term stays (thesis 9.6)
                      a leader's word                     follow it in that term
                      anything else                       follow nobody in that term
older                 a leader's word                     answered NewerTerm
                      a vote request or pre-vote          refused with the newer term (5.1)
                      a forward                           refused if it was surely not taken
                      a forward's refusal                 heeded: it holds for ever
                      anything else                       ignored
"""

from __future__ import annotations

from raft.core.forwarding import on_forward_refused, refuse_late
from raft.core.messages import (
    AppendRequest,
    Forward,
    ForwardRefused,
    Heartbeat,
    InstallSnapshot,
    Message,
    NewerTerm,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from raft.core.replica import Replica
from raft.core.replication import advance_commit
from raft.core.types import NOBODY, Entry, MemberId, Role
from raft.interface import Index, Term


def admit(r: Replica, m: Message) -> bool:
    """Bring the terms together (paper 5.1); False when the message goes no further."""
    if m.term == r.term:
        return True
    return _admit_newer(r, m) if m.term > r.term else _answer_older(r, m)


def _admit_newer(r: Replica, m: Message) -> bool:
    match m:
        case VoteRequest(transfer=False) | PreVoteRequest() if has_lease(r):
            return False
        case PreVoteRequest() | PreVoteResponse(granted=True):
            return True
        case AppendRequest() | Heartbeat() | InstallSnapshot():
            r.become_follower(m.term, m.sender)
        case _:
            r.become_follower(m.term, NOBODY)
    return True


def _answer_older(r: Replica, m: Message) -> bool:
    """Tell the sender that its term is over.

    A leader that was cut off would go on for ever, since vote requests of a newer term are ignored
    by those who hear a leader, and so may never reach it.
    """
    match m:
        case AppendRequest() | Heartbeat() | InstallSnapshot():
            r.send(NewerTerm(r.id, m.sender, r.term))
        case PreVoteRequest():
            r.send(PreVoteResponse(r.id, m.sender, r.term, granted=False))
        case VoteRequest():
            r.send_after_persist(VoteResponse(r.id, m.sender, r.term, granted=False))
        case Forward():
            refuse_late(r, m)
        case ForwardRefused():
            # It may come behind the next leader's word, by another connection.
            on_forward_refused(r, m)
        case _:
            pass
    return False


def has_lease(r: Replica) -> bool:
    """Has this member heard from a leader within the shortest election timeout?

    Then an election could only disturb (thesis 4.2.3). A leader holds its own lease, by
    `check_quorum`.
    """
    return r.leader != NOBODY and r.election_elapsed < r.options.election_ticks


def on_tick(r: Replica) -> None:
    """One tick of a member that does not lead. One that cannot campaign only notes the silence."""
    r.election_elapsed += 1
    if r.election_elapsed < r.election_timeout:
        return
    if r.promotable:
        campaign(r)
    elif r.leader != NOBODY:
        r.become_follower(r.term, NOBODY)


def campaign(r: Replica) -> None:
    """Ask whether an election could be won, before disturbing anyone (thesis 9.6)."""
    if r.role is Role.LEADER or not _may_campaign(r):
        return
    r.become_pre_candidate()
    r.votes[r.id] = True
    last_index, last_term = r.log.last_index, r.log.last_term
    for member in _other_voters(r):
        r.send(PreVoteRequest(r.id, member, Term(r.term + 1), last_index, last_term))
    _count_pre_votes(r)


def stand(r: Replica, *, transfer: bool) -> None:
    """Begin a term as its candidate (paper 5.2).

    The requests wait for the disk as the own vote does. They promise the log's end: if
    it were lost in a crash, a vote given for it could elect this member, back in the same term,
    with a shorter log.
    """
    r.become_candidate()
    last_index, last_term = r.log.last_index, r.log.last_term
    for member in _other_voters(r):
        r.send_after_persist(
            VoteRequest(r.id, member, r.term, last_index, last_term, transfer=transfer)
        )


def on_own_vote_durable(r: Replica, term: Term) -> None:
    """The vote for oneself in `term` is on disk: now it counts (thesis 3.8)."""
    if r.role is Role.CANDIDATE and r.term == term:
        r.votes[r.id] = True
        _count_votes(r)


def on_timeout_now(r: Replica, m: TimeoutNow) -> None:
    """The leader hands over: no pre-vote, and no lease holds the others back (thesis 3.10)."""
    if r.role is Role.FOLLOWER and r.promotable:
        r.stand_after_change = r.has_unapplied_change()
        if not r.stand_after_change:
            stand(r, transfer=True)


def on_applied(r: Replica) -> None:
    """A hand-over that had to wait for a change of membership goes on."""
    if r.stand_after_change and r.role is Role.FOLLOWER and _may_campaign(r):
        stand(r, transfer=True)


def on_pre_vote_request(r: Replica, m: PreVoteRequest) -> None:
    """Would this member vote so? Nothing is promised, and nothing remembered."""
    would = m.term > r.term or may_vote(r, m.sender)
    granted = would and r.log.is_up_to_date(m.last_index, m.last_term)
    term = m.term if granted else r.term
    r.send(PreVoteResponse(r.id, m.sender, term, granted=granted))


def on_vote_request(r: Replica, m: VoteRequest) -> None:
    """One vote a term, first come first served, for a log at least as complete (5.2, 5.4.1).

    Learners vote too when asked: the candidate may know of a promotion that has not got here yet.
    """
    granted = may_vote(r, m.sender) and r.log.is_up_to_date(m.last_index, m.last_term)
    if granted:
        r.vote = m.sender
        r.restart_election_timer()
    r.send_after_persist(VoteResponse(r.id, m.sender, r.term, granted=granted))


def may_vote(r: Replica, candidate: MemberId) -> bool:
    """Is the vote of this term free, or the candidate's already?"""
    return r.vote == candidate or (r.vote == NOBODY and r.leader == NOBODY)


def on_pre_vote_response(r: Replica, m: PreVoteResponse) -> None:
    """Count it, if it answers the question that is open."""
    asked = m.term == r.term + 1 if m.granted else m.term == r.term
    if r.role is Role.PRE_CANDIDATE and asked:
        r.votes.setdefault(m.sender, m.granted)
        _count_pre_votes(r)


def on_vote_response(r: Replica, m: VoteResponse) -> None:
    """Count it."""
    if r.role is Role.CANDIDATE:
        r.votes.setdefault(m.sender, m.granted)
        _count_votes(r)


def check_quorum(r: Replica) -> None:
    """Once an election timeout: a leader that no majority answers steps down (thesis 6.2)."""
    active = sum(r.progress[member].recent_active for member in r.membership.voters)
    if active < r.membership.majority:
        r.become_follower(r.term, NOBODY)
        return
    for _, progress in r.followers:
        progress.recent_active = False


def _may_campaign(r: Replica) -> bool:
    """A membership change that is committed must be in effect first; see `membership`."""
    return r.promotable and not r.has_unapplied_change()


def _other_voters(r: Replica) -> list[MemberId]:
    return sorted(r.membership.voters - {r.id})


def _outcome(r: Replica) -> bool | None:
    """Won, lost, or open."""
    voters, majority = r.membership.voters, r.membership.majority
    granted = sum(r.votes.get(member, False) for member in voters)
    refused = sum(not r.votes.get(member, True) for member in voters)
    if granted >= majority:
        return True
    return False if refused > len(voters) - majority else None


def _count_pre_votes(r: Replica) -> None:
    match _outcome(r):
        case True:
            stand(r, transfer=False)
        case False:
            r.become_follower(r.term, NOBODY)
        case None:
            pass


def _count_votes(r: Replica) -> None:
    match _outcome(r):
        case True:
            lead(r)
        case False:
            r.become_follower(r.term, NOBODY)
        case None:
            pass


def lead(r: Replica) -> None:
    """Begin to lead, with an entry of the new term: older ones commit with it (5.4.2, 8)."""
    r.become_leader()
    first = Entry(Index(r.log.last_index + 1), r.term, b"")
    r.log.append([first])
    r.term_start = r.pending_change = first.index
    r.flush_due = True
    advance_commit(r)
