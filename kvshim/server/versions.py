"""The version that the cluster runs at: what waits for it, and the leader who raises it.

Event loop. What each version brought is `kvshim.apply.versions`; docs/adr/0016 says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from kvshim.apply.outcome import Effect, VersionRaised
from kvshim.apply.versions import LEAST_VERSIONS, kinds_above
from kvshim.errors import ClusterTooOld, RequestError
from kvshim.pb.kvshim.command_pb2 import ClusterVersionRequest, ClusterVersionResponse, Command
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.proposer import Proposer
from kvshim.version import FORMAT_VERSION

LOOK_SECONDS: Final = 1.0

WAIT_SECONDS: Final = 2.0
"""How long a command waits for the version it needs: a new cluster's is raised within that."""


class ClusterVersion:
    """The version as applied here. `closed` are the kinds of command that it does not take yet."""

    def __init__(self, version: int) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._on_change: list[Callable[[], None]] = []
        self.replace(version)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this whenever it is another."""
        self._on_change.append(callback)

    def observe(self, effects: Iterable[Effect]) -> None:
        """Follow what apply did to it."""
        for effect in effects:
            if isinstance(effect, VersionRaised):
                self.replace(effect.version)

    def replace(self, version: int) -> None:
        """It is this from now on."""
        self.current = version
        self.closed = kinds_above(version)
        for callback in self._on_change:
            callback()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def admit(self, command: Command) -> None:
        """Wait until a command may be proposed. Raises `ClusterTooOld`."""
        kind = command.WhichOneof("operation") or ""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while kind in self.closed:
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.append(future)
                    await future
        except TimeoutError:
            raise ClusterTooOld(
                f"this needs version {LEAST_VERSIONS[kind]} of the cluster, which runs at"
                f" {self.current}: start the newer program on every member (kvshim status names"
                " those that lack it)"
            ) from None


class VersionRaiser:
    """While this member leads: raises the version once every member has announced a newer one.

    `announced` are the versions that the programs of the members reached now can run at.
    """

    def __init__(
        self,
        version: ClusterVersion,
        leadership: Leadership,
        book: MemberBook,
        proposer: Proposer,
        announced: Callable[[], Mapping[int, int]],
    ) -> None:
        self._version = version
        self._leadership = leadership
        self._book = book
        self._proposer = proposer
        self._announced = announced
        self._soon = asyncio.Event()
        leadership.on_change(self._soon.set)

    async def run(self) -> None:
        """Look at every change of leader, and every second while this one may raise it."""
        while True:
            self._soon.clear()
            if not self._leadership.leads or self._version.current == FORMAT_VERSION:
                await self._soon.wait()
                continue
            with suppress(RequestError):  # no longer the leader: whoever is will do it
                await self._look()
            with suppress(TimeoutError):
                now = asyncio.get_running_loop().time()
                async with asyncio.timeout_at(now + LOOK_SECONDS - now % LOOK_SECONDS):
                    await self._soon.wait()

    async def _look(self) -> None:
        known = {**self._announced(), self._book.own_id: FORMAT_VERSION}
        members = [member.id for member in self._book.members]
        if not members or any(member not in known for member in members):
            return
        lowest = min(FORMAT_VERSION, *(known[member] for member in members))
        if lowest > self._version.current:
            request = ClusterVersionRequest(version=lowest)
            await self._proposer.propose(Command(cluster_version=request), ClusterVersionResponse)
