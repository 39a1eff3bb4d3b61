"""Bugs that the simulation must find, planted in the core or in its log on disk one at a time.

Each is a mistake that a person could make. `planted` swaps the functions in and back out again; the
seeds that find it are not chosen: the test tries those of a mood in order, from 0 on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kvshim.server.lessor import Lessor
from kvshim.types import LeaseID
from kvshim.watch.catchup import Slice
from kvshim.watch.hub import Hub
from kvshim.watch.outbox import Notice
from kvshim.watch.stream import WatchStream
from kvshim.watch.watcher import INVALID_WATCH_ID, Watcher
from raft.batch import Batch
from raft.core import Entry, HardState, Proposal, election, forwarding, read_index, replication
from raft.core import membership as membership_rules
from raft.core.log import Log
from raft.core.messages import AppendRequest, Heartbeat, Message, VoteRequest
from raft.core.progress import quorum_index
from raft.core.replica import Replica
from raft.core.types import NOBODY, ConfChange
from raft.interface import Index
from raft.storage import LogStorage
from tests.sim.file_disk import FileDisk
from tests.sim.trouble import Mood

Patch = tuple[Any, str, Any]


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake, the rule it breaks, where it is planted, and what mood brings it to light."""

    name: str
    rule: str
    patches: Callable[[], list[Patch]]
    mood: Mood = Mood.CHURN
    files: bool = False
    """Is it in what writes the log? Then the runs are those on files."""
    whole: bool = False
    """Is it above the log? Then the runs are those on all of the production code."""


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The code has this bug inside."""
    patches = bug.patches()
    saved = [(target, name, target.__dict__[name]) for target, name, _ in patches]
    try:
        for target, name, wrong in patches:
            setattr(target, name, wrong)
        yield
    finally:
        for target, name, right in saved:
            setattr(target, name, right)


def commit_old_terms_by_counting() -> list[Patch]:
    def advance_commit(r: Replica) -> bool:
        index = quorum_index(r.progress[member].match for member in r.membership.voters)
        if index <= r.log.commit:
            return False
        r.log.commit_to(index)
        r.flush_due = True
        return True

    modules = (replication, election, membership_rules)
    return [(module, "advance_commit", advance_commit) for module in modules]


def vote_twice() -> list[Patch]:
    return [(election, "may_vote", lambda r, candidate: True)]


def vote_for_any_log() -> list[Patch]:
    return [(Log, "is_up_to_date", lambda log, last_index, last_term: True)]


def forget_the_vote() -> list[Patch]:
    def hard_state(r: Replica) -> HardState:
        return HardState(r.term, NOBODY, r.log.commit)

    def differs_from(r: Replica, told: HardState) -> bool:
        return hard_state(r) != told

    return [(Replica, "hard_state", property(hard_state)), (Replica, "differs_from", differs_from)]


def answer_before_the_disk() -> list[Patch]:
    def send_after_persist(r: Replica, message: Message) -> None:
        r.send(message)

    return [(Replica, "send_after_persist", send_after_persist)]


def ask_for_votes_before_the_disk() -> list[Patch]:
    right = Replica.send_after_persist

    def send_after_persist(r: Replica, message: Message) -> None:
        if isinstance(message, VoteRequest):
            r.send(message)
        else:
            right(r, message)

    return [(Replica, "send_after_persist", send_after_persist)]


def read_without_confirmation() -> list[Patch]:
    return [(read_index, "confirmed_round", lambda r: r.reads.round)]


def read_before_the_first_commit() -> list[Patch]:
    return [(read_index, "may_answer", lambda r: True)]


def take_entries_of_an_older_term() -> list[Patch]:
    right = election.admit

    def admit(r: Replica, m: Message) -> bool:
        if isinstance(m, AppendRequest) and m.term < r.term:
            m.term = r.term
        return right(r, m)

    return [(election, "admit", admit)]


def keep_conflicting_entries() -> list[Patch]:
    def merge(log: Log, entries: Sequence[Entry]) -> None:
        new = [entry for entry in entries if entry.index > log.last_index]
        if new:
            log.append(new)

    return [(Log, "merge", merge)]


def truncate_without_conflict() -> list[Patch]:
    def merge(log: Log, entries: Sequence[Entry]) -> None:
        entries = [entry for entry in entries if entry.index > log.commit]
        if entries:
            if entries[0].index <= log.last_index:
                log.truncate(entries[0].index)
            log.append(entries)

    return [(Log, "merge", merge)]


def apply_before_commit() -> list[Patch]:
    def has_applicable(log: Log) -> bool:
        return not log.installing and log.applying < log.stable

    def next_committed(log: Log, bytes_max: int) -> tuple[Entry, ...]:
        if not has_applicable(log):
            return ()
        entries = log.entries(Index(log.applying + 1), log.stable, bytes_max)
        log.applying = entries[-1].index
        return entries

    return [(Log, "has_applicable", has_applicable), (Log, "next_committed", next_committed)]


def forward_again() -> list[Patch]:
    right = forwarding.forward

    def forward(r: Replica, proposals: Sequence[Proposal]) -> int:
        right(r, proposals)
        return right(r, proposals)

    return [(forwarding, "forward", forward)]


def take_repeated_forwards() -> list[Patch]:
    return [(forwarding, "_is_new", lambda r, m: True)]


def two_changes_at_once() -> list[Patch]:
    def refuse_unsafe(r: Replica, changes: Sequence[ConfChange]) -> None:
        for change in changes:
            r.membership.after(change)

    return [(forwarding, "refuse_unsafe", refuse_unsafe)]


def heartbeat_with_the_leaders_commit() -> list[Patch]:
    def send_heartbeats(r: Replica) -> None:
        for member, _ in r.followers:
            r.send(Heartbeat(r.id, member, r.term, r.log.commit, r.reads.round))

    def on_heartbeat(r: Replica, m: Heartbeat) -> None:
        right(r, dataclasses.replace(m, commit=min(m.commit, r.log.last_index)))

    right = replication.on_heartbeat
    return [
        (replication, "send_heartbeats", send_heartbeats),
        (read_index, "send_heartbeats", send_heartbeats),
        (replication, "on_heartbeat", on_heartbeat),
    ]


def learners_count() -> list[Patch]:
    def advance_commit(r: Replica) -> bool:
        members = sorted(r.progress[member].match for member in r.membership.members)
        index = members[-r.membership.majority]
        if index <= r.log.commit or r.log.term_at(index) != r.term:
            return False
        r.log.commit_to(index)
        r.flush_due = True
        return True

    modules = (replication, election, membership_rules)
    return [(module, "advance_commit", advance_commit) for module in modules]


def cut_at_the_applied_index() -> list[Patch]:
    return [(FileDisk, "durable_index", property(lambda disk: disk.store.index))]


def hard_state_without_an_fsync() -> list[Patch]:
    right = LogStorage._write

    def write(
        log: LogStorage, batch: Batch, cut_through: Index | None, generation: int | None
    ) -> None:
        right(log, Batch(batch.snapshot, batch.entries), cut_through, generation)
        log._db.pragma("synchronous", "NORMAL")
        right(log, Batch(hard_state=batch.hard_state), None, None)
        log._db.pragma("synchronous", "FULL")

    return [(LogStorage, "_write", write)]


def generation_after_the_snapshot() -> list[Patch]:
    right = LogStorage._write

    def write(
        log: LogStorage, batch: Batch, cut_through: Index | None, generation: int | None
    ) -> None:
        right(log, batch, cut_through, log.generation if generation else None)
        if generation is not None:
            log.set_generation(generation)

    return [(LogStorage, "_write", write)]


def show_what_was_not_synced() -> list[Patch]:
    return [(LogStorage, "_sync_inherited", lambda log: None)]


def expire_from_a_stale_checkpoint() -> list[Patch]:
    right = Lessor.keep_alive

    async def keep_alive(lessor: Lessor, lease: LeaseID) -> int:
        lessor._find(lease).checkpointed = False  # this leader counts anew, what else matters?
        return await right(lessor, lease)

    return [(Lessor, "keep_alive", keep_alive)]


def count_on_from_an_earlier_term() -> list[Patch]:
    right = Lessor.promote

    def demote(lessor: Lessor) -> None:
        lessor._primary = False  # but the deadlines stay

    def promote(lessor: Lessor, extend_seconds: float) -> None:
        known = {lease: entry.deadline for lease, entry in lessor._leases.items()}
        right(lessor, extend_seconds)
        for lease, deadline in known.items():
            lessor._leases[lease].deadline = min(deadline, lessor._leases[lease].deadline)
        lessor._rebuild_heaps()

    return [(Lessor, "demote", demote), (Lessor, "promote", promote)]


def take_a_slice_for_the_end() -> list[Patch]:
    def deliver(hub: Hub, watcher: Watcher, piece: Slice) -> int:
        batch = piece.batches.get(watcher)
        if batch is not None and not watcher.stream.outbox.offer(watcher, batch, piece.revision):
            watcher.stream.park(watcher)
            return 0
        watcher.next_revision = max(watcher.next_revision, piece.next_revision)
        hub._sync(watcher)
        return 0 if batch is None else batch.cost

    return [(Hub, "_deliver", deliver)]


def promise_what_is_not_sent() -> list[Patch]:
    def request_progress(stream: WatchStream) -> None:
        if stream._watchers:
            revision = stream._hub.present_revision
            stream.outbox.progress(Notice(INVALID_WATCH_ID, revision))

    return [(WatchStream, "request_progress", request_progress)]


BUGS = (
    Bug("commit old terms by counting", "paper 5.4.2, figure 8", commit_old_terms_by_counting),
    Bug("vote twice in a term", "paper 5.2", vote_twice),
    Bug("vote for any log", "paper 5.4.1", vote_for_any_log),
    Bug("forget to persist the vote", "paper 5.2, thesis 3.8", forget_the_vote),
    Bug("answer before the disk has written", "thesis 3.8", answer_before_the_disk),
    Bug("ask for votes before the disk has written", "ADR 0007", ask_for_votes_before_the_disk),
    Bug("read without confirming the leader", "thesis 6.4", read_without_confirmation, Mood.MOVES),
    Bug("read before the term's first commit", "paper 8", read_before_the_first_commit),
    Bug("take entries of an older term", "paper 5.1", take_entries_of_an_older_term),
    Bug("keep conflicting entries", "paper 5.3", keep_conflicting_entries),
    Bug(
        "truncate without a conflict", "paper 5.3, figure 2", truncate_without_conflict, Mood.MIXED
    ),
    Bug("apply before commit", "paper 5.3", apply_before_commit),
    Bug("forward a proposal again", "DESIGN 3", forward_again),
    Bug("take a repeated forward", "DESIGN 3", take_repeated_forwards),
    Bug("two membership changes at once", "thesis 4.1", two_changes_at_once, Mood.MOVES),
    Bug("tell all the leader's commit index", "paper 5.3", heartbeat_with_the_leaders_commit),
    Bug("count learners", "thesis 4.2.1", learners_count, Mood.MOVES),
    Bug("cut the log at the applied index", "paper 7", cut_at_the_applied_index, files=True),
    Bug(
        "hard state in a second write, not synced",
        "paper 5.2, thesis 3.8",
        hard_state_without_an_fsync,
        files=True,
    ),
    Bug(
        "the store's generation after the snapshot",
        "ADR 0007",
        generation_after_the_snapshot,
        Mood.MIXED,
        files=True,
    ),
    Bug("show entries that were not synced", "thesis 3.8", show_what_was_not_synced, files=True),
    Bug(
        "expire a lease from a stale checkpoint",
        "DESIGN 7",
        expire_from_a_stale_checkpoint,
        Mood.CALM,
        whole=True,
    ),
    Bug(
        "count leases on from an earlier term",
        "DESIGN 7",
        count_on_from_an_earlier_term,
        Mood.CALM,
        whole=True,
    ),
    Bug(
        "take one slice of history for all of it",
        "DESIGN 6",
        take_a_slice_for_the_end,
        Mood.MIXED,
        whole=True,
    ),
    Bug(
        "promise progress before the events",
        "DESIGN 6",
        promise_what_is_not_sent,
        Mood.MIXED,
        whole=True,
    ),
)
