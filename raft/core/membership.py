"""Members come and go, one at a time (thesis 4.1, 4.2).

A change is in effect when it is *applied*, as in etcd, not when it is appended, as in the thesis.
So no membership has to be taken back when an uncommitted entry is replaced, and the state machine's
own list of members never differs from Raft's. It is safe because no two members that can win an
election are ever more than one change apart, and majorities one change apart overlap:

- a leader proposes a change only after it applied its own first entry and the change before;
- whoever appends the next change learns in the same request, and writes in the same
  transaction, that the one before is committed (`AppendRequest.commit`, `Ready.hard_state`);
- whoever knows of a committed change does not campaign before it has applied it.

A member joins as a learner, which counts in no majority (thesis 4.2.1), and is promoted once it has
caught up. ADD_VOTER skips that, for clusters formed the etcd way.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft.core.messages import TimeoutNow
from raft.core.progress import Flow
from raft.core.replica import Replica
from raft.core.replication import advance_commit
from raft.core.types import (
    NOBODY,
    ChangeKind,
    ConfChange,
    ConfChangeRefused,
    MemberId,
    Membership,
    Role,
)
from raft.interface import Index


def refuse_unsafe(r: Replica, changes: Sequence[ConfChange]) -> None:
    """May the leader append these? Raises `ConfChangeRefused`."""
    if len(changes) > 1:
        raise ConfChangeRefused("members change one at a time")
    if r.pending_change > r.log.applied:
        raise ConfChangeRefused(
            f"the change at entry {r.pending_change}, or the term's first entry, is not applied yet"
        )
    (change,) = changes
    r.membership.after(change)
    if change.kind is ChangeKind.PROMOTE and not has_caught_up(r, change.member):
        raise ConfChangeRefused(f"member {change.member} has not caught up with the log yet")


def has_caught_up(r: Replica, member: MemberId) -> bool:
    """Does the learner follow so closely that its vote would not slow commits? (4.2.1)"""
    progress = r.progress.get(member)
    return (
        progress is not None
        and progress.flow is Flow.REPLICATE
        and progress.recent_active
        and r.log.last_index - progress.match <= r.options.promotion_lag_entries_max
    )


def on_applied(r: Replica, index: Index) -> None:
    """The state machine has applied `index`: changes up to there are in effect."""
    while r.handed_changes and r.handed_changes[0][0] <= index:
        _, data = r.handed_changes.popleft()
        try:
            after = r.membership.after(ConfChange.decode(data))
        except ConfChangeRefused:
            continue  # the same on every member: the entry has no effect
        switch_to(r, after)


def switch_to(r: Replica, membership: Membership) -> None:
    """Bring a membership into effect."""
    r.membership = membership
    if r.role is not Role.LEADER:
        return
    if r.id not in membership.voters:
        _leave_office(r)
        return
    known, r.progress = r.progress, {}
    for member in membership.members:
        progress = known.get(member)
        if progress is None:
            progress = r.new_progress()
            # A newcomer counts as alive until the next check, and may be sent a snapshot.
            progress.recent_active = True
        r.progress[member] = progress
    if r.transferee != NOBODY and r.transferee not in membership.voters:
        r.transferee = NOBODY
        r.transfer_asked = False
    advance_commit(r)
    r.flush_due = True


def _leave_office(r: Replica) -> None:
    """A leader that was removed or demoted hands over and steps down (thesis 4.2.2)."""
    candidates = [member for member in r.membership.voters if member in r.progress]
    if candidates:
        best = max(candidates, key=lambda member: (r.progress[member].match, -member))
        r.send(TimeoutNow(r.id, best, r.term))
    r.become_follower(r.term, NOBODY)
