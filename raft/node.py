"""The running member: inputs from the event loop and from peers in, committed entries out.

Two threads belong to a `Node`. "raft" owns the core and the `LogStorage`: it sleeps until something
comes, takes all that waits, sends what may leave before the disk, makes the rest durable with one
fsync and hands over what is committed; while the state machine applies one batch on a thread of
its own, the next one is already being written. It does nothing else, so a disk that hangs keeps
heartbeats from leaving and another member takes over. While it sleeps, the event loop uses the
core itself for time, reads and heartbeats, which seldom need the disk (`_now_or_soon`).
"raft-checkpoint" copies the WAL into the file (`raft.wal_copying`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

from raft.core import CoreOptions, ReadState, TooManyReads
from raft.core.messages import (
    AppendRequest,
    Forward,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
)
from raft.core.ready import Ready, SnapshotOrder
from raft.holding import Holding
from raft.interface import (
    ConfChange,
    ConfChangeRefused,
    Index,
    LogError,
    LogStatus,
    MemberId,
    Membership,
    NoLeader,
    NotLeader,
    ProposalDropped,
    SnapshotMeta,
    StateMachine,
    Term,
    TooManyProposals,
)
from raft.member import Member
from raft.options import Messenger, NodeHooks, NodeOptions
from raft.snapshots import SnapshotSender
from raft.storage import LogStorage
from raft.ticking import Ticking
from raft.wal_copying import WalCopying

SLEEP_SECONDS_MAX: Final = 2.0
"""After which the raft thread looks what the state machine has applied, though nothing came."""

CHANGE_ANSWER_SECONDS: Final = 1.0
"""How long a forwarded change of members waits to hear that the leader refused it."""

CHANGE_POLL_SECONDS: Final = 0.02

_QUICK: Final = (Heartbeat, HeartbeatResponse, ReadIndexRequest, ReadIndexResponse)
"""Messages after which there is seldom anything to write or to apply."""


class _State(Enum):
    NEW = auto()
    RUNNING = auto()
    STOPPED = auto()


@dataclass(slots=True)
class _Adoption:
    """The store of a snapshot of at least this index shall take the place of the one here."""

    least: Index
    done: asyncio.Future[None]
    came: tuple[SnapshotMeta, int] | None = None


_Input: TypeAlias = bytes | Callable[[], None]


class Node:
    """A `ReplicatedLog`. Takes over `storage` and closes it; `transport` is None when alone."""

    def __init__(
        self,
        storage: LogStorage,
        *,
        cluster_id: int,
        member_id: int,
        options: NodeOptions | None = None,
        hooks: NodeHooks | None = None,
    ) -> None:
        self._storage = storage
        self._cluster_id = cluster_id
        self._member_id = MemberId(member_id)
        self._options = options or NodeOptions()
        self._hooks = hooks or NodeHooks()
        self._state = _State.NEW
        self._queue: SimpleQueue[_Input] = SimpleQueue()
        # Each counter has one writer: the loop counts what came, the raft thread what is durable.
        self._proposed = self._proposed_bytes = 0
        self._taken = self._taken_bytes = 0
        first, last = storage.first_index, storage.last_index
        self._status = LogStatus(member_id, 0, Term(0), first, last, Index(0), Membership())
        self._alone = False
        self._stopping = False
        # Held by whoever uses the core: the raft thread unless it sleeps, or the event loop.
        self._at_work = threading.Lock()
        self._left_over: Ready | None = None
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._offer_at = 0.0
        self._changes: dict[int, asyncio.Future[None]] = {}
        self._reads: dict[int, asyncio.Future[Index]] = {}
        self._read_number = 0
        self._leader_waiters: list[asyncio.Future[None]] = []
        self._copying: WalCopying | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Future[None] | None = None
        self._transport: Messenger | None = None
        self._snapshots: SnapshotSender | None = None
        self._offered: set[MemberId] = set()
        self._adoption: _Adoption | None = None
        self._machine: StateMachine | None = None

    # -- the event loop

    def connect(self, transport: Messenger, snapshots: SnapshotSender) -> None:
        """Say how the others are reached; before `start`, not needed by a member alone."""
        self._transport, self._snapshots = transport, snapshots

    async def start(self, machine: StateMachine) -> None:
        """Check, replay, serve; see `ReplicatedLog.start`. Raises `LogError`."""
        loop = self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        ready: asyncio.Future[None] = loop.create_future()
        self._over = loop.create_future()
        self._machine = machine
        threading.Thread(target=self._run, args=(ready,), name="raft", daemon=True).start()
        await asyncio.wait([ready])
        if ready.exception() is not None:
            self._state = _State.STOPPED
            await self._over  # the thread's last word comes before the loop may close
        ready.result()
        self._state = _State.RUNNING
        self._set_timer()

    async def stop(self) -> None:
        """Make what was proposed durable, hand it over, close the file."""
        if self._over is None:
            self._storage.abandon()
            return
        if self._state is _State.RUNNING:
            self._state = _State.STOPPED
            self._stop_timer()
            self._queue.put(self._stop)
        await asyncio.shield(self._over)

    async def resign(self) -> None:
        """Hand leadership to the most up-to-date voter, if this member leads and there is one.

        Returns when another leads and what was forwarded here meanwhile has been refused, so that
        it was proposed there, or after one election timeout: a graceful stop costs writers a
        hand-over and not an election.
        """
        status = self._status
        voters = status.membership.voters
        others = [(index, member) for member, index in status.matches if member in voters]
        if not status.leads or not others:
            return
        try:
            await self.transfer_leadership(max(others)[1])
        except (ProposalDropped, TimeoutError):
            return
        await asyncio.sleep(self._options.heartbeat_ticks * self._options.tick_seconds)

    def propose(self, command: bytes) -> None:
        """Queue a command. Raises `TooManyProposals`, `NoLeader`."""
        if self._state is not _State.RUNNING:
            raise NoLeader("the log does not run")
        if self._status.leader_id == 0:
            raise NoLeader("no leader is known")
        limits = self._options
        if (
            self._proposed - self._taken >= limits.queue_entries_max
            or self._proposed_bytes - self._taken_bytes >= limits.queue_bytes_max
            or self._unapplied_bytes() >= limits.unapplied_bytes_max
        ):
            raise TooManyProposals("too many proposals wait for the disk")
        self._proposed += 1
        self._proposed_bytes += len(command)
        self._queue.put(command)

    async def propose_change(self, change: ConfChange) -> None:
        """Propose a change of members; see `ReplicatedLog.propose_change`."""
        before, sequence = self._status.membership, 0
        refusal: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def offer(member: Member) -> None:
            nonlocal sequence
            sequence = member.propose_change(change)
            if sequence:
                self._changes[sequence] = refusal

        await self._ask(offer)
        if not sequence:
            return
        # The leader answers only if it refuses; a change that it took shows in the membership.
        until = time.monotonic() + CHANGE_ANSWER_SECONDS
        try:
            while self._status.membership == before and time.monotonic() < until:
                await asyncio.wait([refusal], timeout=CHANGE_POLL_SECONDS)
                if refusal.done():
                    raise ConfChangeRefused("the leader did not take the change")
        finally:
            self._queue.put(lambda: self._forget_change(sequence))

    async def transfer_leadership(self, to: MemberId) -> None:
        """Hand over to `to`. Raises `ProposalDropped`; TimeoutError after an election timeout."""
        await self._ask(lambda member: member.core.transfer_leadership(to))

        async def transferred() -> None:
            while self._status.leader_id != to:
                await self._leader_change()

        limits = self._options
        await asyncio.wait_for(transferred(), limits.election_ticks * limits.tick_seconds)

    async def read_index(self) -> Index:
        """See `ReplicatedLog.read_index`. Raises `NoLeader`."""
        if self._state is not _State.RUNNING:
            raise NoLeader("the log does not run")
        if (index := self.read_index_now()) is not None:
            return index
        loop = asyncio.get_running_loop()
        self._read_number += 1
        context = self._read_number
        future: asyncio.Future[Index] = loop.create_future()
        self._reads[context] = future
        self._now_or_soon(partial(self._read, context))
        try:
            return await asyncio.wait_for(future, self._options.read_seconds_max)
        except TimeoutError:
            raise NoLeader("no leader confirmed the read") from None
        finally:
            self._reads.pop(context, None)

    def read_index_now(self) -> Index | None:
        """See `ReplicatedLog.read_index_now`."""
        # Nobody can lead without the vote of one that is alone, and its vote leaves only after
        # `_alone` and the leader in `_status` have changed.
        return self._status.commit_index if self._alone else None

    def offer_store(self, to: MemberId, least: Index) -> None:
        """As leader, send a member the store as of `least` or later, though it may lag nothing.

        One that is on its way is not sent twice. Raises `NotLeader`.
        """
        if not self._status.leads or self._snapshots is None:
            raise NotLeader("this member does not lead")
        if to not in self._offered:
            self._offered.add(to)
            self._snapshots.send(SnapshotOrder(to, self._status.term, least))

    async def adopt_store(self, least: Index) -> None:
        """Wait for a snapshot of `least` or later and let its store replace the one here.

        The state machine must have applied `least` exactly and apply nothing more meanwhile.
        Returns when the log names it: the state machine goes on from it then.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        adoption = _Adoption(least, done)

        def begin() -> None:
            self._adoption = adoption

        def give_up(_: Member) -> None:
            self._adoption = None

        self._queue.put(begin)
        failure: BaseException | None = None
        try:
            await done
        except BaseException as error:
            failure = error
        if failure is not None:
            # Whoever waits for this may let the state machine go on: no store may come after that.
            with suppress(NoLeader):
                await asyncio.shield(self._ask(give_up))
            raise failure

    def applied(self, index: Index) -> None:
        """The state machine's store holds the effects up to `index`; any thread."""
        member = self._member_or_none
        if member is not None and 0 < member.changes_handed_to <= index:
            self._queue.put(_nothing)

    def status(self) -> LogStatus:
        """The present view; any thread."""
        return self._status

    async def leader_known(self) -> None:
        """Wait until somebody leads."""
        while self._status.leader_id == 0 and self._state is _State.RUNNING:
            await self._leader_change()

    # -- what the transport calls, on the event loop

    def received(self, messages: Sequence[Message]) -> None:
        """Messages have come from a peer."""
        step = partial(self._step, messages)
        if all(isinstance(message, _QUICK) for message in messages):
            self._now_or_soon(step)
        else:
            self._queue.put(step)

    def unreachable(self, member: MemberId) -> None:
        """Messages to `member` were lost."""
        self._queue.put(lambda: self._core_member.core.report_unreachable(member))

    def snapshot_ready(self, message: InstallSnapshot, generation: int) -> None:
        """A snapshot has come and lies ready as this generation of the store."""

        def step() -> None:
            self._core_member.accept(message.snapshot, generation)
            self._core_member.core.step(message)
            if self._adoption is not None and message.snapshot.index >= self._adoption.least:
                self._adoption.came = message.snapshot, generation

        self._queue.put(step)

    def snapshot_refused(self, reason: str) -> None:
        """A snapshot that came cannot be used: the leader sends another, if the log lacks it."""
        adoption = self._adoption
        if adoption is not None:
            _settle(adoption.done, LogError(reason))

    def snapshot_sent(self, order: SnapshotOrder, index: Index, reason: str) -> None:
        """How a snapshot that was ordered ended; `reason` is empty when it arrived."""

        def report() -> None:
            if reason:
                self._core_member.release_log(order.to)
            else:
                self._core_member.follow_log(order.to)
            self._core_member.core.report_snapshot(order.to, arrived=not reason)

        self._offered.discard(order.to)
        self._hooks.on_snapshot_sent(order.to, index, reason)
        self._queue.put(report)

    # -- Surroundings: what the member calls, on the raft thread

    def send(self, messages: Sequence[Message]) -> None:
        """Hand messages to the transport."""
        if self._transport is not None:
            self._call_loop(self._hand_over, self._transport, messages)

    def send_snapshot(self, order: SnapshotOrder) -> None:
        """Begin to copy and send the store."""
        assert self._snapshots is not None
        self._call_loop(self._snapshots.send, order)

    def reads_ready(self, reads: Sequence[ReadState]) -> None:
        """Answer those who wait for an index."""
        self._call_loop(self._settle_reads, [(read.context, read.index) for read in reads])

    def reads_lost(self, contexts: Sequence[int]) -> None:
        """Tell those who wait that the leader was lost."""
        self._call_loop(self._settle_reads, [(context, None) for context in contexts])

    def forwards_refused(self, sequences: Sequence[int]) -> None:
        """Propose again what the leader did not take, or what never left."""
        for sequence in sequences:
            if (change := self._changes.get(sequence)) is not None:
                self._tell(change)
            waited = self._holding.waits
            if self._holding.refused(sequence):
                self._queue.put(_nothing)
            elif self._holding.waits and not waited:
                self._offer_at = time.monotonic() + self._options.tick_seconds
                self._queue.put(_nothing)  # so that the thread sleeps until then

    def looked(self, ready: Ready) -> None:
        """Publish the member's view before votes and acknowledgements leave."""
        core = self._core_member.core
        before, now = self._status, core.log_status(ready.leader)
        self._status = now
        self._alone = core.confirmed and now.membership.voters == {self._member_id}
        if before.leader_id != now.leader_id or before.term != now.term:
            self._hooks.on_leader(now.leader_id, now.term)
            if self._holding.waits:
                self._queue.put(_nothing)
            self._call_loop(self._wake_leader_waiters)

    # -- the raft thread

    _member_or_none: Member | None = None

    @property
    def _core_member(self) -> Member:
        assert self._member_or_none is not None
        return self._member_or_none

    _ticking_or_none: Ticking | None = None

    @property
    def _ticking(self) -> Ticking:
        assert self._ticking_or_none is not None
        return self._ticking_or_none

    _holding_or_none: Holding | None = None

    @property
    def _holding(self) -> Holding:
        assert self._holding_or_none is not None
        return self._holding_or_none

    def _run(self, ready: asyncio.Future[None]) -> None:
        try:
            try:
                self._begin()
            except LogError as error:
                self._storage.abandon()
                self._tell(ready, error)
                return
            self._tell(ready)
            self._serve()
        finally:
            if self._copying is not None:
                self._copying.abandon()
            assert self._over is not None
            self._tell(self._over)

    def _begin(self) -> None:
        limits, machine = self._options, self._machine_in_use
        options = CoreOptions(
            self._member_id,
            election_ticks=limits.election_ticks,
            heartbeat_ticks=limits.heartbeat_ticks,
            cache_bytes_max=limits.cache_bytes_max,
        )
        self._member_or_none = Member(self._storage, machine, self, options, limits.retention)
        self._holding_or_none = Holding(self._member_or_none)
        core, tick_seconds = self._member_or_none.core, limits.tick_seconds
        self._ticking_or_none = Ticking(core, tick_seconds, time.monotonic())
        self._storage.set_identity(self._cluster_id, self._member_id)
        self._copying = WalCopying(
            self._storage,
            wake=lambda: self._queue.put(_nothing),
            on_pinned=self._hooks.on_wal_pinned,
            on_released=self._hooks.on_wal_released,
        )
        try:
            self._core_member.begin()
        except LogError:
            raise
        except Exception as error:
            raise LogError(f"the state machine cannot go on: {error}") from error
        self._storage.on_write = self._note_fsync

    def _serve(self) -> None:
        try:
            while not self._stopping:
                self._turn()
            assert self._copying is not None
            self._copying.close()
            self._storage.close()
        except Exception as error:
            self._state = _State.STOPPED
            self._storage.abandon()
            fatal = error if isinstance(error, LogError) else LogError(f"the log stops: {error}")
            self._hooks.on_fatal(fatal)

    def _turn(self) -> None:
        """Sleep until there is something, do all of it."""
        first: _Input | None
        seconds = SLEEP_SECONDS_MAX
        if self._holding.waits or self._adoption is not None:
            seconds = max(0.0, self._offer_at - time.monotonic())
        try:
            first = self._queue.get(timeout=seconds)
        except Empty:
            first = None
        with self._at_work:
            try:
                self._work(first)
                self._look_at_time()
            except Exception:
                self._state = _State.STOPPED  # before the event loop may use the core again
                raise

    def _work(self, first: _Input | None) -> None:
        member = self._core_member
        if self._left_over is not None:
            left_over, self._left_over = self._left_over, None
            member.do(left_over)
        commands = self._take(first)
        applied = self._machine_in_use.applied_index()
        if applied > member.core.applied_index:
            member.core.applied(applied)
        now = time.monotonic()
        self._ticking.pass_to(now)
        holding = self._holding
        if now >= self._offer_at:
            self._offer_at = now + self._options.tick_seconds
            holding.ticked(now)
        holding.offer(now)
        if commands:
            holding.propose(commands, now + self._options.hold_seconds)
        member.work()
        if self._adoption is not None:
            self._adopt(self._adoption)
        if commands:
            self._taken += len(commands)
            self._taken_bytes += sum(map(len, commands))
        assert self._copying is not None
        self._copying.look()

    def _adopt(self, adoption: _Adoption) -> None:
        """Once what came is part of what was handed over: all of that is durable in the log."""
        if adoption.came is None:
            return
        snapshot, generation = adoption.came
        member = self._core_member
        if not member.uses(generation):  # the core may have lacked so much that it took it
            if snapshot.index > member.handed:
                return
            member.adopt(snapshot, generation)
        self._adoption = None
        self._tell(adoption.done)

    def _take(self, item: _Input | None) -> list[bytes]:
        """Run this input and every one that waits; returns the commands among them, bounded."""
        limits = self._options
        commands: list[bytes] = []
        size = 0
        while True:
            if isinstance(item, bytes):
                commands.append(item)
                size += len(item)
                if size >= limits.batch_bytes_max or len(commands) >= limits.batch_entries_max:
                    break
            elif item is not None:
                item()
                if self._stopping:
                    break
            if self._queue.empty():
                break
            item = self._queue.get_nowait()
        return commands

    def _now_or_soon(self, action: Callable[[], None]) -> None:
        """On the event loop: use the core at once if the raft thread sleeps, else queue this."""
        if not self._now(action):
            self._queue.put(action)

    def _now(self, action: Callable[[], None]) -> bool:
        """On the event loop: use the core if the raft thread sleeps; else return False.

        A linearizable read visits the core five times, on two or three members. To wake a thread
        for each, and to wait for the interpreter's lock on the way there and back, cost more
        than all the rest of the read. What has to be written or applied after all is left to the
        thread, which does it before anything else.
        """
        free = self._state is _State.RUNNING and self._queue.empty()
        if not free or not self._at_work.acquire(blocking=False):
            return False
        try:
            if self._left_over is not None:
                return False
            action()
            self._left_over = self._core_member.work_without_disk()
            if self._left_over is not None:
                self._queue.put(_nothing)
            self._look_at_time()
        except Exception as error:
            self._state = _State.STOPPED
            self._queue.put(partial(_raise, error))
        finally:
            self._at_work.release()
        return True

    # -- time: a timer of the event loop, so that a member at rest does not wake its thread

    def _look_at_time(self) -> None:
        """After whatever was done to the core: see that the timer runs when something is due.

        It may run earlier and find nothing; it is left alone then.
        """
        ticking, timer = self._ticking, self._timer
        ticking.look()
        if timer is None or ticking.due_at < timer.when():
            self._call_loop(self._set_timer)

    def _set_timer(self) -> None:
        assert self._loop is not None
        self._stop_timer()
        if self._state is _State.RUNNING:
            self._timer = self._loop.call_at(self._ticking.due_at, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """Something is due; the thread, if it is at work, sees to it and sets the timer again."""
        self._timer = None
        if not self._now(lambda: self._ticking.pass_to(time.monotonic())):
            self._queue.put(_nothing)

    def _forget_change(self, sequence: int) -> None:
        self._changes.pop(sequence, None)

    def _step(self, messages: Sequence[Message]) -> None:
        core = self._core_member.core
        self._ticking.settle(time.monotonic())
        full = self._unapplied_bytes() >= self._options.unapplied_bytes_max
        for message in messages:
            if full and isinstance(message, AppendRequest) and message.entries:
                continue  # the leader sends it again
            core.step(message)

    def _read(self, context: int) -> None:
        try:
            self._core_member.core.read_index(context)
        except (NoLeader, TooManyReads):
            self.reads_lost([context])

    def _stop(self) -> None:
        self._stopping = True

    @property
    def _machine_in_use(self) -> StateMachine:
        assert self._machine is not None
        return self._machine

    def _unapplied_bytes(self) -> int:
        return self._machine_in_use.pending_bytes()

    def _note_fsync(self, seconds: float) -> None:
        self._hooks.on_fsync(seconds)
        if seconds > self._options.slow_fsync_seconds:
            self._hooks.on_slow_fsync(seconds)

    # -- between the two

    async def _ask(self, action: Callable[[Member], None]) -> None:
        """Run an action on the raft thread and wait for it; its refusal is raised here."""
        if self._state is not _State.RUNNING:
            raise NoLeader("the log does not run")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def act() -> None:
            try:
                action(self._core_member)
            except ProposalDropped as refusal:
                self._tell(done, refusal)
            else:
                self._tell(done)

        self._queue.put(act)
        await done

    async def _leader_change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leader_waiters.append(future)
        await future

    def _wake_leader_waiters(self) -> None:
        waiters, self._leader_waiters = self._leader_waiters, []
        for future in waiters:
            _settle(future, None)

    def _settle_reads(self, reads: Sequence[tuple[int, Index | None]]) -> None:
        for context, index in reads:
            future = self._reads.get(context)
            if future is None or future.done():
                continue
            if index is None:
                future.set_exception(NoLeader("the leader was lost"))
            else:
                future.set_result(index)

    def _hand_over(self, transport: Messenger, messages: Sequence[Message]) -> None:
        for message in transport.send(messages):
            if isinstance(message, Forward):
                self._queue.put(partial(self.forwards_refused, [message.sequence]))

    def _call_loop(self, function: Callable[..., object], *args: object) -> None:
        assert self._loop is not None
        if threading.get_ident() == self._loop_thread:
            function(*args)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def _tell(self, future: asyncio.Future[None], error: Exception | None = None) -> None:
        self._call_loop(_settle, future, error)


def _raise(error: Exception) -> None:
    """What went wrong on the event loop ends the raft thread."""
    raise error


def _nothing() -> None:
    """Only wakes the raft thread."""


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
