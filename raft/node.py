"""A member as the event loop knows it: what is asked of the log, and what its peers say.

Two threads belong to a `Node`. "raft" runs the core and owns the `LogStorage` (`raft.engine`);
"raft-checkpoint" copies the WAL into the file (`raft.wal_copying`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from raft.core import CoreOptions, ReadState, TooManyReads
from raft.core.messages import (
    Forward,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
)
from raft.core.ready import Ready, SnapshotOrder
from raft.engine import Adoption, Engine
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
    StateMachine,
    Term,
    TooManyProposals,
)
from raft.member import Member
from raft.on_loop import OnLoop
from raft.options import Messenger, NodeHooks, NodeOptions
from raft.snapshots import SnapshotSender
from raft.storage import LogStorage

CHANGE_ANSWER_SECONDS: Final = 1.0
"""How long a forwarded change of members waits to hear that the leader refused it."""

CHANGE_POLL_SECONDS: Final = 0.02

_QUICK: Final = (Heartbeat, HeartbeatResponse, ReadIndexRequest, ReadIndexResponse)
"""Messages after which there is seldom anything to write or to apply."""


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
        first, last = storage.first_index, storage.last_index
        self._status = LogStatus(member_id, 0, Term(0), first, last, Index(0), Membership())
        self._alone = False
        self._changes: dict[int, asyncio.Future[None]] = {}
        self._reads: dict[int, asyncio.Future[Index]] = {}
        self._read_number = 0
        self._leader_waiters: list[asyncio.Future[None]] = []
        self._transport: Messenger | None = None
        self._snapshots: SnapshotSender | None = None
        self._offered: set[MemberId] = set()
        self._engine_or_none: Engine | None = None

    @property
    def _engine(self) -> Engine:
        assert self._engine_or_none is not None
        return self._engine_or_none

    @property
    def _on_loop(self) -> OnLoop:
        return self._engine.on_loop

    @property
    def _runs(self) -> bool:
        return self._engine_or_none is not None and self._engine_or_none.running

    # -- the event loop

    def connect(self, transport: Messenger, snapshots: SnapshotSender) -> None:
        """Say how the others are reached; before `start`, not needed by a member alone."""
        self._transport, self._snapshots = transport, snapshots

    async def start(self, machine: StateMachine) -> None:
        """Check, replay, serve; see `ReplicatedLog.start`. Raises `LogError`."""
        limits = self._options
        core_options = CoreOptions(
            self._member_id,
            election_ticks=limits.election_ticks,
            heartbeat_ticks=limits.heartbeat_ticks,
            cache_bytes_max=limits.cache_bytes_max,
        )
        try:
            self._engine_or_none = Engine(
                Member(self._storage, machine, self, core_options, limits.retention),
                self._storage,
                machine,
                OnLoop(),
                identity=(self._cluster_id, self._member_id),
                options=limits,
                hooks=self._hooks,
            )
        except LogError:
            self._storage.abandon()
            raise
        await self._engine.start()

    async def stop(self) -> None:
        """Make what was proposed durable, hand it over, close the file."""
        if self._engine_or_none is None:
            self._storage.abandon()
            return
        await self._engine.stop()

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
        if not self._runs:
            raise NoLeader("the log does not run")
        if self._status.leader_id == 0:
            raise NoLeader("no leader is known")
        if self._engine.lags:
            raise TooManyProposals("too many proposals wait to be applied")
        self._engine.intake.propose(command)

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
            self._engine.intake.put(partial(self._forget_change, sequence))

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
        if not self._runs:
            raise NoLeader("the log does not run")
        if (index := self.read_index_now()) is not None:
            return index
        loop = asyncio.get_running_loop()
        self._read_number += 1
        context = self._read_number
        future: asyncio.Future[Index] = loop.create_future()
        self._reads[context] = future
        self._engine.now_or_soon(partial(self._read, context))
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
        engine, adoption = self._engine, Adoption(least, done)

        def begin() -> None:
            engine.adoption = adoption

        def give_up(_: Member) -> None:
            engine.adoption = None

        engine.intake.put(begin)
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
        engine = self._engine_or_none
        if engine is not None and 0 < engine.member.changes_handed_to <= index:
            engine.intake.wake()

    def status(self) -> LogStatus:
        """The present view; any thread."""
        return self._status

    async def leader_known(self) -> None:
        """Wait until somebody leads."""
        while self._status.leader_id == 0 and self._runs:
            await self._leader_change()

    # -- what the transport calls, on the event loop

    def received(self, messages: Sequence[Message]) -> None:
        """Messages have come from a peer."""
        step = partial(self._engine.step, messages)
        if all(isinstance(message, _QUICK) for message in messages):
            self._engine.now_or_soon(step)
        else:
            self._engine.intake.put(step)

    def unreachable(self, member: MemberId) -> None:
        """Messages to `member` were lost."""
        self._engine.intake.put(lambda: self._engine.member.core.report_unreachable(member))

    def snapshot_ready(self, message: InstallSnapshot, generation: int) -> None:
        """A snapshot has come and lies ready as this generation of the store."""

        def step() -> None:
            engine.member.accept(message.snapshot, generation)
            engine.member.core.step(message)
            adoption = engine.adoption
            if adoption is not None and message.snapshot.index >= adoption.least:
                adoption.came = message.snapshot, generation

        engine = self._engine
        engine.intake.put(step)

    def snapshot_refused(self, reason: str) -> None:
        """A snapshot that came cannot be used: the leader sends another, if the log lacks it."""
        if (adoption := self._engine.adoption) is not None:
            self._on_loop.tell(adoption.done, LogError(reason))

    def snapshot_sent(self, order: SnapshotOrder, index: Index, reason: str) -> None:
        """How a snapshot that was ordered ended; `reason` is empty when it arrived."""

        def report() -> None:
            if reason:
                self._engine.member.release_log(order.to)
            else:
                self._engine.member.follow_log(order.to)
            self._engine.member.core.report_snapshot(order.to, arrived=not reason)

        self._offered.discard(order.to)
        self._hooks.on_snapshot_sent(order.to, index, reason)
        self._engine.intake.put(report)

    # -- Surroundings: what the member calls, on the raft thread

    def send(self, messages: Sequence[Message]) -> None:
        """Hand messages to the transport."""
        if self._transport is not None:
            self._on_loop.call(self._hand_over, self._transport, messages)

    def send_snapshot(self, order: SnapshotOrder) -> None:
        """Begin to copy and send the store."""
        assert self._snapshots is not None
        self._on_loop.call(self._snapshots.send, order)

    def reads_ready(self, reads: Sequence[ReadState]) -> None:
        """Answer those who wait for an index."""
        self._on_loop.call(self._settle_reads, [(read.context, read.index) for read in reads])

    def reads_lost(self, contexts: Sequence[int]) -> None:
        """Tell those who wait that the leader was lost."""
        self._on_loop.call(self._settle_reads, [(context, None) for context in contexts])

    def forwards_refused(self, sequences: Sequence[int]) -> None:
        """Propose again what the leader did not take, or what never left."""
        for sequence in sequences:
            if (change := self._changes.get(sequence)) is not None:
                self._on_loop.tell(change)
            self._engine.refused(sequence)

    def looked(self, ready: Ready) -> None:
        """Publish the member's view before votes and acknowledgements leave."""
        core = self._engine.member.core
        before, now = self._status, core.log_status(ready.leader)
        self._status = now
        self._alone = core.confirmed and now.membership.voters == {self._member_id}
        if before.leader_id != now.leader_id or before.term != now.term:
            self._hooks.on_leader(now.leader_id, now.term)
            self._engine.led_otherwise()
            self._on_loop.call(self._wake_leader_waiters)

    # -- what is done with the core

    def _forget_change(self, sequence: int) -> None:
        self._changes.pop(sequence, None)

    def _read(self, context: int) -> None:
        try:
            self._engine.member.core.read_index(context)
        except (NoLeader, TooManyReads):
            self.reads_lost([context])

    # -- between the two

    async def _ask(self, action: Callable[[Member], None]) -> None:
        """Run an action on the raft thread and wait for it; its refusal is raised here."""
        if not self._runs:
            raise NoLeader("the log does not run")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def act() -> None:
            try:
                action(self._engine.member)
            except ProposalDropped as refusal:
                self._on_loop.tell(done, refusal)
            else:
                self._on_loop.tell(done)

        self._engine.intake.put(act)
        await done

    async def _leader_change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leader_waiters.append(future)
        await future

    def _wake_leader_waiters(self) -> None:
        waiters, self._leader_waiters = self._leader_waiters, []
        for future in waiters:
            self._on_loop.tell(future)

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
                self._engine.intake.put(partial(self.forwards_refused, [message.sequence]))
