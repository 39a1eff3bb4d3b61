"""Proposals: appended by the leader, forwarded by a follower, exactly once.

A forward is sent once and never again: if it, or the answer, is lost, the outcome is unknown and
stays so. The network may still repeat or delay it, so a leader takes (member, session, sequence)
only in ascending order and only in its own term. A session is one life of a member, named at
random: a restarted member counts from zero again.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft.core.membership import refuse_unsafe
from raft.core.messages import Forward, ForwardRefused
from raft.core.replica import Replica
from raft.core.types import (
    NOBODY,
    ConfChange,
    Entry,
    EntryKind,
    NotLeader,
    Proposal,
    Role,
    TransferInProgress,
)
from raft.interface import Index, NoLeader, ProposalDropped, TooManyProposals


def propose(r: Replica, proposals: Sequence[Proposal]) -> int:
    """Take all of them or none; see `Node.propose`."""
    if r.role is Role.LEADER:
        append(r, proposals)
        return 0
    if r.leader == NOBODY:
        raise NoLeader("no leader is known")
    return forward(r, proposals)


def append(r: Replica, proposals: Sequence[Proposal]) -> None:
    """Put them into the leader's log. Raises `ProposalDropped` when none was taken."""
    if r.role is not Role.LEADER:
        raise NotLeader("this member does not lead")
    if r.transferee != NOBODY:
        raise TransferInProgress(f"leadership is going over to member {r.transferee}")
    size = sum(len(proposal.data) for proposal in proposals)
    if r.uncommitted_bytes and r.uncommitted_bytes + size > r.options.uncommitted_bytes_max:
        # One proposal of any size passes when nothing waits, or it never could.
        raise TooManyProposals(f"{r.uncommitted_bytes} bytes of proposals are not yet applied")
    last = r.log.last_index
    entries = [
        Entry(Index(last + offset), r.term, proposal.data, proposal.kind)
        for offset, proposal in enumerate(proposals, start=1)
    ]
    changes = [entry for entry in entries if entry.kind is EntryKind.CONF_CHANGE]
    if changes:
        refuse_unsafe(r, [ConfChange.decode(entry.data) for entry in changes])
        r.pending_change = changes[-1].index
    r.uncommitted_bytes += size
    r.log.append(entries)
    r.flush_due = True


def forward(r: Replica, proposals: Sequence[Proposal]) -> int:
    """Send them to the leader; returns the sequence by which a refusal names them."""
    r.forward_sequence += 1
    r.send(Forward(r.id, r.leader, r.term, r.session, r.forward_sequence, tuple(proposals)))
    return r.forward_sequence


def on_forward(r: Replica, m: Forward) -> None:
    """Append what a follower forwarded, or say that it was not."""
    if r.role is not Role.LEADER:
        refuse_late(r, m)
        return
    if not _is_new(r, m):
        return
    try:
        append(r, m.proposals)
    except ProposalDropped:
        r.send(ForwardRefused(r.id, m.sender, r.term, m.session, m.sequence))


def refuse_late(r: Replica, m: Forward) -> None:
    """A forward to a leader of the past: say that it was not taken, if that is certain.

    It is when this life of the member never led the forward's term, or remembers what it took in
    it. So a graceful hand-over costs no client its timeout.
    """
    kept = m.term == r.forwards_term and r.forwards_kept
    if m.term > r.forwards_term or (kept and not _was_seen(r, m)):
        r.send(ForwardRefused(r.id, m.sender, r.term, m.session, m.sequence))


def on_forward_refused(r: Replica, m: ForwardRefused) -> None:
    """Let the caller know: it is safe to propose these again."""
    if m.session == r.session:
        r.out.refused.append(m.sequence)


def _is_new(r: Replica, m: Forward) -> bool:
    """Never seen, and nothing later seen: remembers it, whatever becomes of it."""
    source = (m.sender, m.session)
    if _was_seen(r, m):
        return False
    if source not in r.forwards_seen and len(r.forwards_seen) >= r.options.sessions_max:
        return False
    r.forwards_seen[source] = m.sequence
    return True


def _was_seen(r: Replica, m: Forward) -> bool:
    return m.sequence <= r.forwards_seen.get((m.sender, m.session), 0)
