"""Clients of a member without data, and who serves them: both sides, wired. Event loop."""

from __future__ import annotations

import asyncio
from typing import Final

from kvshim.server.following import CARRY_SECONDS, Follower
from kvshim.server.leadership import Leadership
from kvshim.transport.http2.server import Http2Server
from raft.transport import CarriedClient, PeerTransport
from raft.types import LogError, MemberId

RETRY_SECONDS: Final = 0.2
AVOID_SECONDS: Final = 10.0
"""A member that did not serve a client is asked last for so long."""


class Forwarding:
    """Finds a member for each client of this one; `kvshim.transport.carried.Detour`."""

    def __init__(self, follower: Follower, transport: PeerTransport) -> None:
        self._follower = follower
        self._transport = transport
        self._failed_at: dict[int, float] = {}

    def wanted(self) -> bool:
        """Does this member hold no data?"""
        return self._follower.forwards

    async def carry(self, client: CarriedClient) -> asyncio.Transport:
        """The connection on which a member serves this client. Raises `OSError`."""
        async with asyncio.timeout(CARRY_SECONDS):
            while True:
                for member in self._servers():
                    try:
                        return await self._transport.carry(MemberId(member), client)
                    except (OSError, LogError):
                        self._failed_at[member] = asyncio.get_running_loop().time()
                await asyncio.sleep(RETRY_SECONDS)

    def _servers(self) -> list[int]:
        since = asyncio.get_running_loop().time() - AVOID_SECONDS
        self._failed_at = {m: at for m, at in self._failed_at.items() if at > since}
        found = [member.id for member in self._follower.servers()]
        return sorted(found, key=lambda member: self._failed_at.get(member, 0.0))


class Serving:
    """Serves clients that others carry here; `raft.transport.ClientTaker`."""

    def __init__(self, follower: Follower, leadership: Leadership, server: Http2Server) -> None:
        self._follower = follower
        self._leadership = leadership
        self._server = server

    def refusal(self) -> str | None:
        """A member without a leader could answer little: the client is better off elsewhere."""
        if self._follower.forwards:
            return "this member holds no data itself"
        return None if self._leadership.has_leader else "this member knows no leader"

    def take(self, client: CarriedClient, transport: asyncio.Transport) -> None:
        """Serve it as if it had connected here."""
        self._server.serve(client, transport)
