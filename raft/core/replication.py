"""Leaders send, followers take: AppendEntries, heartbeats, commit, snapshots, hand-over.

Requests are made when a Ready is: whatever was proposed, committed or answered since the last one
shares them (`flush`). Sections of the paper stand at each rule.
"""

from __future__ import annotations

from raft.core.messages import (
    AppendRejected,
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    TimeoutNow,
)
from raft.core.progress import Flow, Progress, quorum_index
from raft.core.ready import SnapshotOrder
from raft.core.replica import Replica
from raft.core.types import NOBODY, Compacted, MemberId, Role
from raft.interface import Index, Term

# -- the leader's side


def flush(r: Replica) -> None:
    """Send every follower what it lacks, as far as its limits allow."""
    r.flush_due = False
    for member, progress in r.followers:
        sent = False
        while progress.next <= r.log.last_index and send_append(r, member, progress, empty=False):
            sent = True
        if not sent and progress.lacks_commit(r.log.commit):
            _tell_commit(r, member, progress)


def _tell_commit(r: Replica, to: MemberId, progress: Progress) -> None:
    """Let a follower apply what it has confirmed. Its answer would tell nothing and wake the
    leader; what it has not confirmed yet is told when it has.
    """
    if progress.flow is not Flow.REPLICATE:
        send_append(r, to, progress, empty=True)
        return
    commit = min(progress.match, r.log.commit)
    if commit > progress.sent_commit:
        r.send(Heartbeat(r.id, to, r.term, commit, r.reads.round, quiet=True))
        progress.sent_commit = commit


def send_append(r: Replica, to: MemberId, progress: Progress, *, empty: bool) -> bool:
    """Send one request; without entries only if `empty`. False when nothing left.

    A full pipeline still lets an empty request through, or all would stop when every request in
    it was lost.
    """
    if not progress.can_send:
        return False
    blocked = progress.flow is Flow.REPLICATE and progress.inflights.full
    if blocked and not empty:
        return False
    prev = Index(progress.next - 1)
    try:
        prev_term = r.log.term_at(prev)
        entries = (
            ()
            if blocked
            else r.log.entries(progress.next, r.log.last_index, r.options.append_bytes_max)
        )
    except Compacted:
        return _order_snapshot(r, to, progress)
    if not entries and not empty:
        return False
    r.send(AppendRequest(r.id, to, r.term, prev, prev_term, entries, r.log.commit))
    progress.sent(len(entries), sum(entry.size for entry in entries))
    progress.sent_commit = r.log.commit
    return bool(entries)


def _order_snapshot(r: Replica, to: MemberId, progress: Progress) -> bool:
    """The follower needs what was cut (paper 7). One that is silent would only cost a copy."""
    if progress.recent_active:
        progress.become_snapshot(r.log.applied)
        r.out.snapshot_orders.append(SnapshotOrder(to, r.term, r.log.applied))
    return False


def send_heartbeats(r: Replica) -> None:
    """Say that the leader lives. The commit index told never passes what is known to match."""
    for member, progress in r.followers:
        commit = min(progress.match, r.log.commit)
        quiet = _needs_no_answer(r, member, progress)
        r.send(Heartbeat(r.id, member, r.term, commit, r.reads.round, quiet))
        progress.sent_commit = max(progress.sent_commit, commit)


def _needs_no_answer(r: Replica, member: MemberId, progress: Progress) -> bool:
    """An answer would tell nothing: the member was heard since the quorum was last looked at, has
    the whole log and has confirmed what reads wait for. Each answer wakes the leader.
    """
    return (
        progress.recent_active
        and progress.flow is Flow.REPLICATE
        and progress.match == r.log.last_index
        and r.reads.acks.get(member, 0) == r.reads.round
    )


def advance_commit(r: Replica) -> bool:
    """Commit what a majority of the voters holds durably; True when the index moved.

    Only an entry of the leader's own term is committed by counting; older ones are with it
    (paper 5.4.2, figure 8).
    """
    index = quorum_index([r.progress[member].match for member in r.membership.voters])
    if index <= r.log.commit or r.log.term_at(index) != r.term:
        return False
    r.log.commit_to(index)
    r.flush_due = True
    return True


def on_stable(r: Replica) -> None:
    """The leader's own entries count once they are durable (thesis 10.2.1)."""
    own = r.progress.get(r.id)
    if r.role is Role.LEADER and own is not None and own.matched(r.log.stable):
        advance_commit(r)


def on_append_response(r: Replica, m: AppendResponse) -> None:
    """A follower has written what it was sent (paper 5.3)."""
    progress = r.progress.get(m.sender)
    if r.role is not Role.LEADER or progress is None:
        return
    progress.recent_active = True
    probing = progress.flow is Flow.PROBE and progress.match == m.index
    if not progress.matched(m.index) and not probing:
        return
    match progress.flow:
        case Flow.PROBE:
            progress.become_replicate()
        case Flow.SNAPSHOT:
            if progress.match + 1 >= r.log.first_index:
                progress.become_replicate()
        case Flow.REPLICATE:
            progress.inflights.free_through(m.index)
    advance_commit(r)
    r.flush_due = True
    hand_over(r)


def on_append_rejected(r: Replica, m: AppendRejected) -> None:
    """No match: go back, by whole terms (paper 5.3, end)."""
    progress = r.progress.get(m.sender)
    if r.role is not Role.LEADER or progress is None:
        return
    progress.recent_active = True
    hint = m.hint_index
    if m.hint_term > 0:
        hint, _ = r.log.conflict_hint(Index(min(hint, r.log.last_index)), m.hint_term)
    if progress.rejected(m.index, hint):
        if progress.flow is Flow.REPLICATE:
            progress.become_probe()
        send_append(r, m.sender, progress, empty=True)


def on_heartbeat_response(r: Replica, m: HeartbeatResponse) -> None:
    """The follower lives: whatever it lacks and nobody is known to be sending may go again."""
    progress = r.progress.get(m.sender)
    if r.role is not Role.LEADER or progress is None:
        return
    progress.recent_active = True
    progress.paused = False
    behind = progress.match < r.log.last_index
    if behind or progress.flow is Flow.PROBE:
        send_append(r, m.sender, progress, empty=True)


def report_snapshot(r: Replica, member: MemberId, *, arrived: bool) -> None:
    """The snapshot's transfer has ended; go on behind it, or try again with the next heartbeat."""
    progress = r.progress.get(member)
    if r.role is not Role.LEADER or progress is None or progress.flow is not Flow.SNAPSHOT:
        return
    if not arrived:
        progress.pending_snapshot = Index(0)
    progress.become_probe()
    progress.paused = True


def report_unreachable(r: Replica, member: MemberId) -> None:
    """A message was lost for sure: what was sent ahead is lost as well."""
    progress = r.progress.get(member)
    if r.role is Role.LEADER and progress is not None and progress.flow is Flow.REPLICATE:
        progress.become_probe()


def hand_over(r: Replica) -> None:
    """Once the transferee has the whole log, tell it to campaign (thesis 3.10)."""
    progress = r.progress.get(r.transferee)
    if r.transferee == NOBODY or progress is None or r.transfer_asked:
        return
    if progress.match == r.log.last_index:
        r.transfer_asked = True
        r.send(TimeoutNow(r.id, r.transferee, r.term))


# -- the follower's side


def on_append_request(r: Replica, m: AppendRequest) -> None:
    """Take entries that fit the log (paper 5.3, figure 2)."""
    _follow(r, m.sender, m.term)
    if m.prev_index < r.log.commit:
        # Late or repeated. What is committed here is in every later leader's log (5.4.3).
        r.send_after_persist(AppendResponse(r.id, m.sender, r.term, r.log.commit))
    elif r.log.matches(m.prev_index, m.prev_term):
        r.log.merge(m.entries)
        last = Index(m.prev_index + len(m.entries))
        # Beyond `last` this log may differ from the leader's, whatever the leader has committed.
        r.log.commit_to(min(m.commit, last))
        r.send_after_persist(AppendResponse(r.id, m.sender, r.term, last))
    else:
        hint, hint_term = r.log.conflict_hint(min(m.prev_index, r.log.last_index), m.prev_term)
        r.send_after_persist(AppendRejected(r.id, m.sender, r.term, m.prev_index, hint, hint_term))


def on_heartbeat(r: Replica, m: Heartbeat) -> None:
    """The leader lives."""
    _follow(r, m.sender, m.term)
    r.log.commit_to(m.commit)
    if not m.quiet:
        r.send(HeartbeatResponse(r.id, m.sender, r.term, m.round))


def on_install_snapshot(r: Replica, m: InstallSnapshot) -> None:
    """Begin anew behind a snapshot, unless the log already holds its last entry (paper 7)."""
    _follow(r, m.sender, m.term)
    snapshot = m.snapshot
    if snapshot.index > r.log.commit:
        if r.log.matches(snapshot.index, snapshot.term):
            r.log.commit_to(snapshot.index)
        else:
            r.log.restore(snapshot)
            r.membership = snapshot.membership
            r.handed_changes.clear()
    r.send_after_persist(AppendResponse(r.id, m.sender, r.term, r.log.commit))


def _follow(r: Replica, leader: MemberId, term: Term) -> None:
    """A leader of this term spoke: whoever else campaigned has lost (paper 5.2)."""
    if r.role is not Role.FOLLOWER or r.leader != leader:
        r.become_follower(term, leader)
    else:
        r.election_elapsed = 0
