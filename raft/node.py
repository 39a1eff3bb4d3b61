"""The running log of a cluster of one: proposals in from the event loop, entries out to `apply`.

Two threads belong to a `Node`. "raft-log" owns the `LogStorage`: it sleeps until something is
proposed, takes all that waits, makes it durable with one fsync and hands it over; while the state
machine applies one batch on a thread of its own, the next one is already being written.
"raft-checkpoint" copies the WAL into the file, so that appends never wait for more than the rest.
`start`, `stop`, `propose`, `read_index` and `status` belong to the event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto
from queue import Empty, SimpleQueue

from raft.database import WalCopier
from raft.interface import (
    Entry,
    Index,
    LogError,
    LogStatus,
    NoLeader,
    StateMachine,
    Term,
    TooManyProposals,
)
from raft.member import RetentionOptions, SoleMember
from raft.storage import LogStorage


class _Control(Enum):
    """What the log thread is woken for besides proposals."""

    STOP = auto()
    WAL_COPIED = auto()


class _State(Enum):
    NEW = auto()
    RUNNING = auto()
    STOPPED = auto()


def _ignore(_: object) -> None:
    """The default of a hook."""


def _nothing() -> None:
    """The default of a hook without arguments."""


@dataclass(frozen=True, slots=True)
class NodeHooks:
    """Called on the log thread: must be quick and must not raise.

    `on_fsync` gets the seconds of every append; `on_slow_fsync` of those that took too long;
    `on_wal_pinned` the WAL's bytes when an outside reader keeps it from starting over, once until
    `on_wal_released` says that it has left;
    `on_fatal` the reason when the log cannot go on: nothing further is made durable or applied.
    """

    on_fsync: Callable[[float], None] = _ignore
    on_slow_fsync: Callable[[float], None] = _ignore
    on_fatal: Callable[[LogError], None] = _ignore
    on_wal_pinned: Callable[[int], None] = _ignore
    on_wal_released: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Bounds of the queue and of one batch; what counts as a slow fsync."""

    batch_entries_max: int = 512
    batch_bytes_max: int = 4 << 20
    queue_entries_max: int = 8_192
    queue_bytes_max: int = 64 << 20
    slow_fsync_seconds: float = 1.0
    retention: RetentionOptions = field(default_factory=RetentionOptions)


class Node:
    """A `ReplicatedLog` of one member. Takes over `storage` and closes it."""

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
        self._member_id = member_id
        self._options = options or NodeOptions()
        self._hooks = hooks or NodeHooks()
        self._state = _State.NEW
        self._queue: SimpleQueue[bytes | _Control] = SimpleQueue()
        # Each counter has one writer: the loop counts what came, the log thread what is durable.
        self._proposed = self._proposed_bytes = 0
        self._durable = self._durable_bytes = 0
        self._view = (Term(0), storage.first_index, storage.last_index, Index(0))
        self._wal_bytes_limit = storage.options.wal_bytes_max
        self._copier: WalCopier | None = None
        self._copying: Future[None] | None = None
        self._pinned = False
        self._copy_thread = ThreadPoolExecutor(1, thread_name_prefix="raft-checkpoint")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Future[None] | None = None

    async def start(self, machine: StateMachine) -> None:
        """Check, lead, replay; see `ReplicatedLog.start`. Raises `LogError`."""
        loop = self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._over = loop.create_future()
        member = SoleMember(self._storage, machine, self._options.retention)
        threading.Thread(
            target=self._log_thread, args=(member, ready), name="raft-log", daemon=True
        ).start()
        try:
            await ready
        except LogError:
            self._state = _State.STOPPED
            await self._over  # the thread's last word comes before the loop may close
            raise
        self._state = _State.RUNNING

    async def stop(self) -> None:
        """Make what was proposed durable, hand it over, close the file."""
        if self._over is None:
            self._copy_thread.shutdown(wait=False)
            self._storage.abandon()
            return
        if self._state is _State.RUNNING:
            self._state = _State.STOPPED
            self._queue.put(_Control.STOP)
        await asyncio.shield(self._over)

    def propose(self, command: bytes) -> None:
        """Queue a command. Raises `TooManyProposals`, or `NoLeader` when the log does not run."""
        if self._state is not _State.RUNNING:
            raise NoLeader("the log does not run")
        limits = self._options
        if (
            self._proposed - self._durable >= limits.queue_entries_max
            or self._proposed_bytes - self._durable_bytes >= limits.queue_bytes_max
        ):
            raise TooManyProposals("too many proposals wait for the disk")
        self._proposed += 1
        self._proposed_bytes += len(command)
        self._queue.put(command)

    async def read_index(self) -> Index:
        """The commit index: the only member is always the leader. Raises `NoLeader`."""
        if self._state is not _State.RUNNING:
            raise NoLeader("the log does not run")
        return self._view[3]

    def status(self) -> LogStatus:
        """The present view; any thread."""
        term, first, last, commit = self._view
        leader = self._member_id if self._state is _State.RUNNING else 0
        return LogStatus(self._member_id, leader, term, first, last, commit)

    # -- the log thread from here on

    def _log_thread(self, member: SoleMember, ready: asyncio.Future[None]) -> None:
        try:
            try:
                self._begin(member)
            except LogError as error:
                self._storage.abandon()
                self._tell(ready, error)
                return
            self._tell(ready)
            self._serve(member)
        finally:
            self._copy_thread.shutdown(wait=True)
            assert self._over is not None
            self._tell(self._over)

    def _begin(self, member: SoleMember) -> None:
        member.check()
        self._storage.set_identity(self._cluster_id, self._member_id)
        self._copier = WalCopier(self._storage.path, self._storage.options)
        member.lead()
        self._show(member)
        try:
            member.replay()
        except LogError:
            raise
        except Exception as error:
            raise LogError(f"the state machine cannot go on: {error}") from error

    def _serve(self, member: SoleMember) -> None:
        try:
            while self._turn(member):
                pass
            self._finish_copy()
            assert self._copier is not None
            self._copier.close()
            self._storage.close()
        except Exception as error:
            self._state = _State.STOPPED
            self._storage.abandon()
            fatal = error if isinstance(error, LogError) else LogError(f"the log stops: {error}")
            self._hooks.on_fatal(fatal)

    def _turn(self, member: SoleMember) -> bool:
        """Sleep until there is something, do all of it; False when asked to stop."""
        limits = self._options
        item: bytes | _Control | None = self._queue.get()
        commands: list[bytes] = []
        size = 0
        while isinstance(item, bytes):
            commands.append(item)
            size += len(item)
            item = None
            if size < limits.batch_bytes_max and len(commands) < limits.batch_entries_max:
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
        if commands:
            self._write(member, commands, size)
        if item is _Control.WAL_COPIED:
            self._finish_copy()
        return item is not _Control.STOP

    def _write(self, member: SoleMember, commands: list[bytes], size: int) -> None:
        began = time.monotonic()
        entries: list[Entry] = member.append(commands)
        seconds = time.monotonic() - began
        self._show(member)
        self._durable += len(commands)
        self._durable_bytes += size
        member.apply(entries)
        self._hooks.on_fsync(seconds)
        if seconds > self._options.slow_fsync_seconds:
            self._hooks.on_slow_fsync(seconds)
        if self._copying is None and self._storage.wal_bytes > self._wal_bytes_limit:
            assert self._copier is not None
            self._copying = self._copy_thread.submit(self._copier.copy)
            self._copying.add_done_callback(lambda _: self._queue.put(_Control.WAL_COPIED))

    def _finish_copy(self) -> None:
        """Copy the few frames written since, between two appends: then the WAL starts over.

        While appends go on a checkpoint beside them never catches up with the end of the WAL,
        which would grow without bound. A foreign reader can still hold it: then try again later.
        """
        if self._copying is None:
            return
        self._copying.result()
        self._copying = None
        self._wal_bytes_limit = self._storage.options.wal_bytes_max
        if self._storage.checkpoint():
            if self._pinned:
                self._hooks.on_wal_released()
            self._pinned = False
            return
        self._wal_bytes_limit += self._storage.wal_bytes
        if not self._pinned:
            self._hooks.on_wal_pinned(self._storage.wal_bytes)
        self._pinned = True

    def _show(self, member: SoleMember) -> None:
        log = self._storage
        self._view = (member.term, log.first_index, log.last_index, member.commit_index)

    def _tell(self, future: asyncio.Future[None], error: LogError | None = None) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(_settle, future, error)


def _settle(future: asyncio.Future[None], error: LogError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
