"""One member's core and log, and the order between them that keeps every promise.

Plain calls, no thread and no clock, so that tests drive the very code that `raft.engine` runs on
its thread. `Member` does what `raft.core.ready` asks for: send what may leave, write, send what
waited for the write, hand over what is committed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from raft.core import (
    ConfChange,
    CoreOptions,
    EntryKind,
    Node,
    Proposal,
    ReadState,
    SnapshotMeta,
    SnapshotOrder,
    StartState,
)
from raft.core.messages import Message
from raft.core.ready import Ready
from raft.interface import ConfChangeRefused, Index, LogError, MemberId, StateMachine
from raft.storage import LogStorage

HELD_FOR_MEMBERS: Final = 4
"""So many times the bytes kept otherwise are kept for a member that catches up from a snapshot."""


@dataclass(frozen=True, slots=True)
class RetentionOptions:
    """How much of the log is kept behind the state machine's durable index.

    The newest entries stay for followers that lag, while they are fewer and smaller than this;
    the rest goes in slices, within the transaction of an append, so that it costs no fsync.
    """

    entries_kept: int = 5_000
    bytes_kept: int = 64 << 20
    slice_entries_max: int = 1_000


class Surroundings(Protocol):
    """What a member calls while it works; each must be quick."""

    def send(self, messages: Sequence[Message]) -> None:
        """Hand messages to the transport, which may lose them."""

    def send_snapshot(self, order: SnapshotOrder) -> None:
        """Begin to copy and send the store; ends with `Node.report_snapshot`."""

    def reads_ready(self, reads: Sequence[ReadState]) -> None:
        """These reads have an index."""

    def reads_lost(self, contexts: Sequence[int]) -> None:
        """These were not confirmed; they may be asked again."""

    def forwards_refused(self, sequences: Sequence[int]) -> None:
        """The leader did not take these forwards; they may be proposed again."""

    def looked(self, ready: Ready) -> None:
        """Roles, terms and indices may have changed; called before votes and acks leave."""


class Member:
    """Drives a `StateMachine` from the core and a `LogStorage`. One thread at a time."""

    def __init__(
        self,
        storage: LogStorage,
        machine: StateMachine,
        surroundings: Surroundings,
        options: CoreOptions,
        retention: RetentionOptions | None = None,
        *,
        random: Random | None = None,
    ) -> None:
        """Raises `LogError` when log and state machine do not fit together; changes nothing."""
        self._storage = storage
        self._machine = machine
        self._retention = retention or RetentionOptions()
        self._around = surroundings
        applied = machine.applied_index()
        self._check(applied)
        self.handed = applied
        self.changes_handed_to = Index(0)
        """The newest change of membership that the state machine was given."""
        self._cut_floors: dict[MemberId, Index] = {}
        self._catching_up: set[MemberId] = set()
        self._generations: dict[SnapshotMeta, int] = {}
        start = StartState(storage.hard_state, machine.membership(), applied)
        self.core = Node(options, storage, start, random or Random())

    @property
    def alone(self) -> bool:
        """Is this member the only one with a vote?"""
        return self.core.status().membership.voters == {self.core.status().member_id}

    def begin(self) -> None:
        """Replay what the state machine lacks; a sole voter leads at once, nobody else could."""
        if self.alone:
            self.core.campaign()
        self.work()

    def propose(self, commands: Sequence[bytes]) -> int:
        """Propose commands as one; see `raft.core.Node.propose`."""
        return self.core.propose([Proposal(command) for command in commands])

    def propose_change(self, change: ConfChange) -> int:
        """Propose a change of members, as `propose` does commands. Raises `ProposalDropped`.

        The first membership is not in the log, so a newcomer must get it with a snapshot: a log
        that still begins at its first entry is cut before anyone joins.
        """
        if self._storage.first_index == 1 and self.core.status().role.name == "LEADER":
            durable = self._machine.durable_index()
            if durable < 1:
                raise ConfChangeRefused("the store is too young: try again in a minute")
            self._storage.cut(min(durable, Index(1)))
        return self.core.propose_change(change)

    def release_log(self, member: MemberId) -> None:
        """Keep nothing more for it than for everybody."""
        self._cut_floors.pop(member, None)
        self._catching_up.discard(member)

    def follow_log(self, member: MemberId) -> None:
        """The snapshot has arrived: go on keeping what it lacks until appends have brought that.

        A slow wire takes so long for a snapshot that more was written meanwhile than is kept
        otherwise; cut at once, the member would need another, and another.
        """
        if member in self._cut_floors:
            self._catching_up.add(member)

    def accept(self, snapshot: SnapshotMeta, generation: int) -> None:
        """The store of this snapshot lies ready as `generation`, should the core want it."""
        self._generations[snapshot] = generation

    def adopt(self, snapshot: SnapshotMeta, generation: int) -> None:
        """Put an accepted store in the place of this one, although the log lacks nothing.

        Only for one of what was handed over, and only while the state machine has applied nothing
        beyond it: the log, terms and votes stay as they are. Call it when `work` has returned.
        """
        if not self._storage.first_index - 1 <= snapshot.index <= self.handed:
            raise LogError(f"a store of entry {snapshot.index} does not fit the log")
        if self._storage.term_at(snapshot.index) != snapshot.term:
            raise LogError(f"entry {snapshot.index} has another term here than at the leader")
        self._generations.pop(snapshot, None)
        self._storage.set_generation(generation)
        self._machine.install(generation, snapshot)

    def uses(self, generation: int) -> bool:
        """Does the log name this generation of the store?"""
        return self._storage.generation == generation

    def work(self) -> None:
        """Do what the core asks for until it asks for nothing."""
        while self.core.has_ready():
            self.do(self.core.ready())

    def work_without_disk(self) -> Ready | None:
        """Like `work`, but stop before anything is written, applied or copied.

        Returns what the caller must `do` before anything else is asked of this member.
        """
        while self.core.has_ready():
            ready = self.core.ready()
            if ready.writes or ready.committed or ready.snapshot_orders:
                return ready
            self.do(ready)
        return None

    def do(self, ready: Ready) -> None:
        """Do what the core asked for; in order, and each Ready once."""
        around = self._around
        if ready.messages:
            around.send(ready.messages)
        for order in ready.snapshot_orders:
            # The copy holds at least this entry, and maybe no more: what follows is needed.
            self._cut_floors[order.to] = order.index
            around.send_snapshot(order)
        if ready.writes:
            self._write(ready)
        around.looked(ready)
        if ready.after_persist:
            around.send(ready.after_persist)
        self.core.persisted(ready.number)
        if ready.committed:
            self.handed = ready.committed[-1].index
            for entry in ready.committed:
                if entry.kind is EntryKind.CONF_CHANGE:
                    self.changes_handed_to = entry.index
            self._machine.apply(ready.committed)
        if ready.reads:
            around.reads_ready(ready.reads)
        if ready.reads_lost:
            around.reads_lost(ready.reads_lost)
        if ready.refused:
            around.forwards_refused(ready.refused)

    def _write(self, ready: Ready) -> None:
        snapshot = ready.snapshot
        if snapshot is None:
            cut_through = self._cut_through() if ready.entries else None
            self._storage.write([ready], cut_through=cut_through)
            return
        generation = self._generations[snapshot]
        self._generations = {}
        self._storage.write([ready], generation=generation)
        self.handed = snapshot.index
        self._machine.install(generation, snapshot)

    def _cut_through(self) -> Index | None:
        keep, storage = self._retention, self._storage
        if self._catching_up:
            self._release_caught_up()
        if not storage.is_long(keep.entries_kept, keep.bytes_kept, keep.slice_entries_max):
            return None
        durable = min([self._machine.durable_index(), *self._cut_floors.values()])
        index = storage.cuttable(
            durable, keep.entries_kept, keep.bytes_kept, keep.slice_entries_max
        )
        return index if index >= storage.first_index else None

    def _release_caught_up(self) -> None:
        """Let go of those that need no more than is kept anyway, that left, or need too much."""
        followers, keep = self.core.status().followers, self._retention
        near = self._storage.last_index - keep.entries_kept // 2
        too_large = self._storage.entries_bytes > HELD_FOR_MEMBERS * keep.bytes_kept
        for member in list(self._catching_up):
            follower = followers.get(member)
            if follower is None or follower.match >= near or too_large:
                self.release_log(member)

    def _check(self, applied: Index) -> None:
        first, last = self._storage.first_index, self._storage.last_index
        if applied < first - 1:
            raise LogError(
                f"the store has applied entry {applied} but {self._storage.path} begins at entry"
                f" {first}: the store is older than the log, restore both from one backup"
            )
        if applied > last:
            raise LogError(
                f"the store has applied entry {applied} but {self._storage.path} ends at entry"
                f" {last}: the log is older than the store, restore both from one backup"
            )
