"""The core at work: on the raft thread, and on the event loop while that thread sleeps.

The thread sleeps until something comes, takes all that waits, sends what may leave before the disk,
makes the rest durable with one fsync and hands over what is committed. The state machine applies
on a thread of its own, while the next batch is already being written, or on this one, in a moment.
It does nothing else, so a disk that hangs keeps heartbeats from leaving and another member takes
over. While it sleeps, the event loop uses the core itself for time, reads and heartbeats, which
seldom need the disk (`now_or_soon`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from raft.core.messages import AppendRequest, Message
from raft.core.ready import Ready
from raft.holding import Holding
from raft.intake import Input, Intake
from raft.interface import Index, LogError, SnapshotMeta, StateMachine
from raft.member import Member
from raft.on_loop import OnLoop
from raft.options import NodeHooks, NodeOptions
from raft.storage import LogStorage
from raft.ticking import Ticking
from raft.wal_copying import WalCopying

SLEEP_SECONDS_MAX: Final = 2.0
"""After which the raft thread looks what the state machine has applied, though nothing came."""


@dataclass(slots=True)
class Adoption:
    """The store of a snapshot of at least this index shall take the place of the one here."""

    least: Index
    done: asyncio.Future[None]
    came: tuple[SnapshotMeta, int] | None = None


class Engine:
    """Runs a `Member`; closes its storage in the end.

    `running` is true from the member's first step until it is told to stop or cannot go on.
    """

    def __init__(
        self,
        member: Member,
        storage: LogStorage,
        machine: StateMachine,
        on_loop: OnLoop,
        *,
        identity: tuple[int, int],
        options: NodeOptions,
        hooks: NodeHooks,
    ) -> None:
        """`identity` is of cluster and member. Raises `LogError`."""
        self.member = member
        self.on_loop = on_loop
        self.intake = Intake(options)
        self.running = False
        self.adoption: Adoption | None = None
        self.over: asyncio.Future[None] = on_loop.loop.create_future()
        """Done when the thread has ended and the storage is closed."""
        self._identity = identity
        self._storage = storage
        self._machine = machine
        self._options = options
        self._hooks = hooks
        self._holding = Holding(member)
        self._ticking = Ticking(member.core, options.tick_seconds, time.monotonic())
        # Held by whoever uses the core: the raft thread unless it sleeps, or the event loop.
        self._at_work = threading.Lock()
        self._left_over: Ready | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._offer_at = 0.0
        self._copying = WalCopying(
            storage,
            wake=self.intake.wake,
            on_pinned=hooks.on_wal_pinned,
            on_released=hooks.on_wal_released,
        )

    # -- the event loop

    async def start(self) -> None:
        """Replay what the state machine lacks, then serve.

        Raises `LogError`, if the log is another member's or the state machine cannot go on.
        """
        begun: asyncio.Future[None] = self.on_loop.loop.create_future()
        threading.Thread(target=self._run, args=(begun,), name="raft", daemon=True).start()
        await asyncio.wait([begun])
        if begun.exception() is not None:
            await self.over  # the thread's last word comes before the loop may close
        begun.result()
        self._set_timer()

    async def stop(self) -> None:
        """Do what waits, close the storage."""
        if self.running:
            self.running = False
            self._stop_timer()
            self.intake.put(self._close)
        await asyncio.shield(self.over)

    def now_or_soon(self, action: Callable[[], None]) -> None:
        """Use the core at once if the raft thread sleeps, else queue this."""
        if not self._now(action):
            self.intake.put(action)

    def _now(self, action: Callable[[], None]) -> bool:
        """Use the core if the raft thread sleeps; else return False.

        A linearizable read visits the core five times, on two or three members. To wake a thread
        for each, and to wait for the interpreter's lock on the way there and back, cost more
        than all the rest of the read. What has to be written or applied after all is left to the
        thread, which does it before anything else.
        """
        free = self.running and self.intake.empty
        if not free or not self._at_work.acquire(blocking=False):
            return False
        try:
            if self._left_over is not None:
                return False
            action()
            self._left_over = self.member.work_without_disk()
            if self._left_over is not None:
                self.intake.wake()
            self._look_at_time()
        except Exception as error:
            self.running = False
            self.intake.put(partial(_raise, error))
        finally:
            self._at_work.release()
        return True

    @property
    def lags(self) -> bool:
        """Is so much committed and not yet applied that nothing more is taken? Any thread."""
        return self._machine.pending_bytes() >= self._options.unapplied_bytes_max

    # -- whoever uses the core

    def step(self, messages: Sequence[Message]) -> None:
        """Take messages of a peer; entries only while the state machine keeps up."""
        core = self.member.core
        self._ticking.settle(time.monotonic())
        full = self.lags
        for message in messages:
            if full and isinstance(message, AppendRequest) and message.entries:
                continue  # the leader sends it again
            core.step(message)

    def refused(self, sequence: int) -> None:
        """Propose again what the leader did not take, or what never left."""
        waited = self._holding.waits
        if self._holding.refused(sequence):
            self.intake.wake()
        elif self._holding.waits and not waited:
            self._offer_at = time.monotonic() + self._options.tick_seconds
            self.intake.wake()  # so that the thread sleeps until then

    def led_otherwise(self) -> None:
        """Another leads, or nobody: offer what was held."""
        if self._holding.waits:
            self.intake.wake()

    # -- the raft thread

    def _run(self, begun: asyncio.Future[None]) -> None:
        try:
            try:
                self._begin()
            except LogError as error:
                self._storage.abandon()
                self.on_loop.tell(begun, error)
                return
            self.running = True
            self.on_loop.tell(begun)
            self._serve()
        finally:
            self._copying.abandon()
            self.on_loop.tell(self.over)

    def _begin(self) -> None:
        self._storage.set_identity(*self._identity)
        try:
            self.member.begin()
        except LogError:
            raise
        except Exception as error:
            raise LogError(f"the state machine cannot go on: {error}") from error
        self._storage.on_write = self._note_fsync

    def _serve(self) -> None:
        try:
            while not self.intake.closed:
                self._turn()
            self._copying.close()
            self._storage.close()
        except Exception as error:
            self.running = False
            self._storage.abandon()
            fatal = error if isinstance(error, LogError) else LogError(f"the log stops: {error}")
            self._hooks.on_fatal(fatal)

    def _turn(self) -> None:
        """Sleep until there is something, do all of it."""
        seconds = SLEEP_SECONDS_MAX
        if self._holding.waits or self.adoption is not None:
            seconds = max(0.0, self._offer_at - time.monotonic())
        first = self.intake.wait(seconds)
        with self._at_work:
            try:
                self._work(first)
                self._look_at_time()
            except Exception:
                self.running = False  # before the event loop may use the core again
                raise

    def _work(self, first: Input | None) -> None:
        member = self.member
        if self._left_over is not None:
            left_over, self._left_over = self._left_over, None
            member.do(left_over)
        commands = self.intake.take(first)
        applied = self._machine.applied_index()
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
        if self.adoption is not None:
            self._adopt(self.adoption)
        if commands:
            self.intake.settle(commands)
        self._copying.look()

    def _adopt(self, adoption: Adoption) -> None:
        """Once what came is part of what was handed over: all of that is durable in the log."""
        if adoption.came is None:
            return
        snapshot, generation = adoption.came
        member = self.member
        if not member.uses(generation):  # the core may have lacked so much that it took it
            if snapshot.index > member.handed:
                return
            member.adopt(snapshot, generation)
        self.adoption = None
        self.on_loop.tell(adoption.done)

    def _close(self) -> None:
        self.intake.closed = True

    def _note_fsync(self, seconds: float) -> None:
        self._hooks.on_fsync(seconds)
        if seconds > self._options.slow_fsync_seconds:
            self._hooks.on_slow_fsync(seconds)

    # -- time: a timer of the event loop, so that a member at rest does not wake its thread

    def _look_at_time(self) -> None:
        """After whatever was done to the core: see that the timer runs when something is due.

        It may run earlier and find nothing; it is left alone then.
        """
        ticking, timer = self._ticking, self._timer
        ticking.look()
        if timer is None or ticking.due_at < timer.when():
            self.on_loop.call(self._set_timer)

    def _set_timer(self) -> None:
        self._stop_timer()
        if self.running:
            self._timer = self.on_loop.loop.call_at(self._ticking.due_at, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """Something is due; the thread, if it is at work, sees to it and sets the timer again."""
        self._timer = None
        if not self._now(lambda: self._ticking.pass_to(time.monotonic())):
            self.intake.wake()


def _raise(error: Exception) -> None:
    """What went wrong on the event loop ends the raft thread."""
    raise error
