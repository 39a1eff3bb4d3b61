"""Snapshots on their way: copied and sent when the leader's core orders one, accepted on arrival.

Event loop; copying and checking run on threads. One copy is made and sent at a time, so that many
new members cost no more disk than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from raft.core.messages import InstallSnapshot
from raft.core.ready import SnapshotOrder
from raft.interface import Index, LogError, MemberId, SnapshotMeta, StateMachine, Term

APPLY_SECONDS_MAX: Final = 10.0
"""How long a copy may wait for the store to have applied what it must hold."""

APPLY_POLL_SECONDS: Final = 0.02


class SnapshotCarrier(Protocol):
    """The part of a transport that carries files."""

    async def send_snapshot(
        self, to: MemberId, term: Term, snapshot: SnapshotMeta, path: Path
    ) -> None:
        """Returns when the other side has taken all of it. Raises `OSError`, `LogError`."""


class SnapshotUser(Protocol):
    """The member that orders and takes snapshots."""

    def snapshot_sent(self, order: SnapshotOrder, index: Index, reason: str) -> None:
        """How an order ended; `reason` is empty when it arrived."""

    def snapshot_ready(self, message: InstallSnapshot, generation: int) -> None:
        """A snapshot that came is ready to be used as `generation`."""

    def snapshot_refused(self, reason: str) -> None:
        """A snapshot that came cannot be used."""


class SnapshotSender:
    """Both directions; see the module."""

    def __init__(
        self, machine: StateMachine, carrier: SnapshotCarrier, user: SnapshotUser, directory: Path
    ) -> None:
        self._machine = machine
        self._carrier = carrier
        self._user = user
        self._directory = directory
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def clean(self) -> None:
        """Remove copies that a process before this one left behind; blocks."""
        for path in self._directory.glob("snapshot-to-*.tmp*"):
            path.unlink(missing_ok=True)

    def send(self, order: SnapshotOrder) -> None:
        """Copy the store and send it; `SnapshotUser.snapshot_sent` follows in any case."""
        self._spawn(self._send(order))

    async def accept(self, message: InstallSnapshot, path: Path) -> None:
        """A whole, verified file has come: make it a generation of the store and say so.

        Raises `LogError` when it cannot be used.
        """
        try:
            generation = await asyncio.to_thread(self._machine.accept, path, message.snapshot)
        except (OSError, LogError) as error:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            self._user.snapshot_refused(str(error))
            raise LogError(str(error)) from error
        self._user.snapshot_ready(message, generation)

    async def stop(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, order: SnapshotOrder) -> None:
        path = self._directory / f"snapshot-to-{order.to:016x}.tmp"
        index, reason = Index(0), "the member stops"
        try:
            async with self._one_at_a_time:
                await self._applied(order.index)
                await asyncio.to_thread(path.unlink, missing_ok=True)
                snapshot = await asyncio.to_thread(self._machine.copy, path)
                index = snapshot.index
                await self._carrier.send_snapshot(order.to, order.term, snapshot, path)
            reason = ""
        except (OSError, LogError) as error:  # TimeoutError is an OSError
            reason = str(error) or type(error).__name__
        finally:
            with suppress(OSError):
                await asyncio.to_thread(path.unlink, missing_ok=True)
            self._user.snapshot_sent(order, index, reason)

    async def _applied(self, index: Index) -> None:
        async with asyncio.timeout(APPLY_SECONDS_MAX):
            # The store tells nobody on this loop, and few snapshots are sent.
            while self._machine.applied_index() < index:  # noqa: ASYNC110
                await asyncio.sleep(APPLY_POLL_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
