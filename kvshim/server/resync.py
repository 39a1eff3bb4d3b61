"""A member whose store is damaged, or differs, gets the leader's in its place, while it runs.

Applying is held at some entry; the leader is asked for its store as of that entry or a later one,
which comes as snapshots do, is checked, and takes the place of this one as the next generation.
The log, term and votes stay: what the log holds behind the new store's entry is then applied to it.
A leader hands over first. Event loop.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from kvshim.errors import KvshimError, NotLeader, RequestError
from kvshim.logs import Event, Logger
from kvshim.server.leadership import Leadership
from raft import interface as raft

STORE_METHOD: Final = "send-store"
"""By which a member asks the leader for its store."""

POLL_SECONDS: Final = 0.5
ASK_AGAIN_SECONDS: Final = 15.0
ASK_AGAIN_SECONDS_MAX: Final = 300.0
"""After so long the leader is asked again, each time later: what it sent may have been lost."""

ATTEMPT_SECONDS_MAX: Final = 1800.0
LEADER_SECONDS_MAX: Final = 30.0
"""How long a member waits for somebody else to lead."""

RETRY_SECONDS: Final = 5.0
"""After a mending that began by itself did not succeed."""


class RepairError(KvshimError):
    """The store could not be replaced; it is as it was. One sentence."""


class HeldMachine(Protocol):
    """The part of the state machine that stands still meanwhile."""

    def hold(self) -> raft.Index: ...
    def release(self) -> None: ...
    def wait_installed(self) -> None: ...


class StoreLog(Protocol):
    """The part of the log that takes a store without an entry being missing."""

    async def adopt_store(self, least: raft.Index) -> None: ...
    def offer_store(self, to: raft.MemberId, least: raft.Index) -> None: ...
    async def resign(self) -> None: ...


class Resync:
    """Replaces the store, once at a time; `in_doubt` says whether this member's own is wrong."""

    def __init__(
        self,
        log: StoreLog,
        machine: HeldMachine,
        leadership: Leadership,
        *,
        own_id: int,
        ask_leader: Callable[[str, bytes], Awaitable[bytes]],
        alone: Callable[[], bool],
        in_doubt: Callable[[], bool],
        logger: Logger,
    ) -> None:
        self._log = log
        self._machine = machine
        self._leadership = leadership
        self._own_id = own_id
        self._ask_leader = ask_leader
        self._alone = alone
        self._in_doubt = in_doubt
        self._logger = logger
        self._running: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self.resyncs_total = 0
        self.on_failed: Callable[[], Awaitable[None]] | None = None
        """Called when a mending that began by itself did not succeed; it is tried again."""
        self.after: Callable[[], Awaitable[object]] | None = None
        """Called when a mending that began by itself has ended: to compare with the others."""

    @property
    def busy(self) -> bool:
        """Is the store being replaced?"""
        return self._running is not None or self._mending is not None

    async def run(self, reason: str) -> None:
        """Replace the store; whoever comes while it is done waits for the same. `RepairError`."""
        if self._running is None:
            self._running = asyncio.create_task(self._run(reason))
            self._running.add_done_callback(self._ended)
        await asyncio.shield(self._running)

    def mend(self, reason: str) -> bool:
        """Begin to do so by itself, again and again until it is done; False for a sole member."""
        if self._alone():
            return False
        if self._mending is None:
            self._mending = asyncio.create_task(self._mend(reason))
        return True

    async def stop(self) -> None:
        """End what is under way; the store is then as it was, or the new one."""
        tasks = [task for task in (self._mending, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def handle(self, payload: bytes) -> bytes:
        """A member asks this one, the leader, for its store: {"member": id, "applied": index}.

        Raises `NotLeader`, also when this member's own store is in doubt.
        """
        if self._in_doubt() or self.busy:
            raise NotLeader
        try:
            asked = json.loads(payload)
            member, applied = int(asked["member"], 16), int(asked["applied"])
        except (ValueError, KeyError, TypeError):
            raise NotLeader from None
        try:
            self._log.offer_store(raft.MemberId(member), raft.Index(applied))
        except raft.NotLeader:
            raise NotLeader from None
        return b"{}"

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running = None
        if not task.cancelled():
            task.exception()  # told to whoever waits

    async def _mend(self, reason: str) -> None:
        try:
            while True:
                try:
                    await self.run(reason)
                    break
                except RepairError as error:
                    self._logger.error(Event.RESYNC_FAILED, reason=str(error))
                    if self.on_failed is not None:
                        with suppress(RequestError):
                            await self.on_failed()
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._mending = None
        if self.after is not None:
            with suppress(RequestError, KvshimError):
                await self.after()

    async def _run(self, reason: str) -> None:
        if self._alone():
            raise RepairError(
                "this is the only member, so there is no other store to take: restore a backup"
            )
        began = time.monotonic()
        self._logger.warn(Event.RESYNC_STARTED, reason=reason)
        await self._let_another_lead()
        try:
            least = await asyncio.to_thread(self._machine.hold)
        except KvshimError as error:
            raise RepairError(str(error)) from error
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS_MAX):
                await self._adopt(least)
        except TimeoutError:
            raise RepairError("the leader's store did not come in time") from None
        finally:
            self._machine.release()
        await asyncio.to_thread(self._machine.wait_installed)
        self.resyncs_total += 1
        self._logger.info(Event.RESYNC_DONE, took_seconds=round(time.monotonic() - began, 3))

    async def _let_another_lead(self) -> None:
        """Wait until somebody else leads."""
        try:
            async with asyncio.timeout(LEADER_SECONDS_MAX):
                while self._leadership.leads or not self._leadership.has_leader:
                    if self._leadership.leads:
                        await self._log.resign()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise RepairError(
                "no other member leads, and the store comes from the leader"
            ) from None

    async def _adopt(self, least: raft.Index) -> None:
        adopting = asyncio.create_task(self._log.adopt_store(least))
        request: dict[str, Any] = {"member": f"{self._own_id:x}", "applied": int(least)}
        asked_at, asked_of, patience = 0.0, 0, ASK_AGAIN_SECONDS
        refused_since = 0.0
        try:
            while not adopting.done():
                if self._leadership.leads:
                    raise RepairError("this member was elected meanwhile: try again")
                now, leader = time.monotonic(), self._leadership.leader_id
                if leader != asked_of or now - asked_at > patience:
                    try:
                        await self._ask_leader(STORE_METHOD, json.dumps(request).encode())
                    except Exception as error:  # the network's, the other side's, or no leader
                        refused_since = refused_since or now
                        if now - refused_since > LEADER_SECONDS_MAX:
                            raise RepairError(f"the leader sends no store: {error}") from None
                    else:
                        asked_at, asked_of, refused_since = now, leader, 0.0
                        patience = min(2 * patience, ASK_AGAIN_SECONDS_MAX)
                await asyncio.wait([adopting], timeout=POLL_SECONDS)
            await adopting
        except raft.LogError as error:
            raise RepairError(str(error)) from error
        finally:
            adopting.cancel()
            await asyncio.gather(adopting, return_exceptions=True)
