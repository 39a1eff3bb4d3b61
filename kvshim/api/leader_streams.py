"""Streams that require a leader: they end when there has been none for three election timeouts.

As etcd's monitor does it (server/etcdserver/api/v3rpc/interceptor.go). Watch streams, which have a
failure of their own, are ended by the Watch service. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kvshim.api.guard import requires_leader
from kvshim.errors import NoLeader
from kvshim.rpc import Call


class LeaderStreams:
    """The streams of one service that are under way and were opened with `hasleader`."""

    def __init__(self) -> None:
        self._streams: set[asyncio.Timeout] = set()

    def leader_lost(self) -> None:
        """End them all; called when there has been no leader for three election timeouts."""
        now = asyncio.get_running_loop().time()
        for stream in self._streams:
            if not stream.expired():
                stream.reschedule(now)

    @asynccontextmanager
    async def of(self, call: Call) -> AsyncIterator[None]:
        """Around the serving of a stream. Raises `NoLeader` out of whatever it waits for."""
        if not requires_leader(call):
            yield
            return
        try:
            async with asyncio.timeout(None) as stream:
                self._streams.add(stream)
                try:
                    yield
                finally:
                    self._streams.discard(stream)
        except TimeoutError:
            if stream.expired():
                raise NoLeader from None
            raise
