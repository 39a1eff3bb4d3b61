"""What goes out to one other member: two lanes, each a connection and a bounded queue. Event loop.

Connections go one way: each side dials for what it has to say. So each owns its queue and its
retries, and nobody decides which of two crossing connections lives. The urgent lane takes what is
small and must not wait; the bulk lane takes proposals and all appends, which keep their order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from random import random
from typing import Final

from raft.core.messages import AppendRequest, Forward, Message
from raft.transport.codec import encode
from raft.transport.connection import FrameConnection, describe
from raft.transport.dialling import Dialler, watch
from raft.transport.options import Purpose, Receiver, TransportHooks
from raft.types import LogError, MemberId

_BULK: Final = (AppendRequest, Forward)
_WRITE_BYTES: Final = 1 << 20


class Lane:
    """One connection to one member, opened again and again; what cannot go now is dropped."""

    def __init__(
        self,
        member: MemberId,
        purpose: Purpose,
        dialler: Dialler,
        receiver: Receiver,
        hooks: TransportHooks,
    ) -> None:
        options = dialler.options
        urgent = purpose is Purpose.URGENT
        self._member = member
        self._purpose = purpose
        self._dialler = dialler
        self._receiver = receiver
        self._hooks = hooks
        self._messages_max = options.urgent_messages_max if urgent else options.bulk_messages_max
        self._bytes_max = options.urgent_bytes_max if urgent else options.bulk_bytes_max
        self._queue: deque[tuple[bytes, bytes]] = deque()
        self._bytes = 0
        self._flush_due = False
        self._told = False
        self._connection: FrameConnection | None = None
        self._urls: tuple[str, ...] = ()
        self._url = ""
        self._moved = asyncio.Event()
        self.dropped = 0
        self.format_version = 0
        self.connected = asyncio.Event()

    def set_urls(self, urls: Sequence[str]) -> None:
        """Where the member is now."""
        if tuple(urls) == self._urls:
            return
        self._urls = tuple(urls)
        self._moved.set()
        if self._connection is not None and self._url not in self._urls:
            self._connection.finish("the member has another address now")

    def send(self, message: Message) -> bool:
        """Queue it, or drop it, return False and say that the member is unreachable."""
        if self._connection is None:
            self._drop()
            return False
        head, body = encode(message)
        size = len(head) + len(body)
        full = len(self._queue) >= self._messages_max or self._bytes + size > self._bytes_max
        if (self._queue and full) or len(body) > self._dialler.options.frame_bytes_max:
            self._drop()
            return False
        self._queue.append((head, body))
        self._bytes += size
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)
        return True

    async def run(self) -> None:
        """Keep the lane connected until cancelled."""
        options = self._dialler.options
        tries, failures = 0, 0
        try:
            while True:
                self._moved.clear()
                if self._urls:
                    self._url = self._urls[tries % len(self._urls)]
                    tries += 1
                    if await self._connect_once():
                        failures = 0
                failures += 1
                ceiling = min(
                    options.retry_seconds_max, options.retry_seconds_min * 2 ** min(failures, 20)
                )
                await self._pause(ceiling * (0.5 + random() / 2))
        finally:
            if self._connection is not None:
                self._flush()
                self._connection.finish("this member stops")
                self._connection = None

    async def _connect_once(self) -> bool:
        """Connect and stay; returns whether there was a connection."""
        try:
            connection, hello = await self._dialler.open(self._url, self._member, self._purpose)
        except (OSError, LogError) as error:
            self._hooks.unreachable(self._member, self._url, describe(error))
            return False
        self._connection = connection
        self.format_version = hello.format_version
        self._told = False
        if self._url not in self._urls:  # moved meanwhile
            connection.finish("the member has another address now")
        connection.deliver_to(_expect_nothing)
        connection.on_writable = self._flush
        self._hooks.connected(self._member, self._purpose, self._url)
        self.connected.set()
        reason = await watch(connection, self._dialler.options)
        self.connected.clear()
        self._connection = None
        self._queue.clear()
        self._bytes = 0
        self._hooks.disconnected(self._member, self._purpose, reason)
        self._tell()
        return True

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._moved.wait(), seconds)

    def _flush(self) -> None:
        """All that was queued in this turn of the loop leaves in one write, as far as it may."""
        self._flush_due = False
        connection, queue = self._connection, self._queue
        if connection is None:
            return
        while queue and connection.writable:
            pieces: list[bytes] = []
            size = 0
            while queue and size < _WRITE_BYTES:
                head, body = queue.popleft()
                pieces += (head, body)
                size += len(head) + len(body)
            self._bytes -= size
            connection.write_all(pieces)
        if not queue:
            self._told = False

    def _drop(self) -> None:
        self.dropped += 1
        self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._receiver.unreachable(self._member)


class PeerLanes:
    """Both lanes to one member."""

    def __init__(
        self, member: MemberId, dialler: Dialler, receiver: Receiver, hooks: TransportHooks
    ) -> None:
        self.urgent = Lane(member, Purpose.URGENT, dialler, receiver, hooks)
        self.bulk = Lane(member, Purpose.BULK, dialler, receiver, hooks)
        self.urls: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []

    def set_urls(self, urls: Sequence[str]) -> None:
        """Where the member is now."""
        self.urls = tuple(urls)
        self.urgent.set_urls(urls)
        self.bulk.set_urls(urls)

    def start(self) -> None:
        """Begin to connect."""
        self._tasks = [asyncio.create_task(lane.run()) for lane in (self.urgent, self.bulk)]

    def send(self, message: Message) -> bool:
        """Choose the lane; False if it was dropped."""
        return (self.bulk if isinstance(message, _BULK) else self.urgent).send(message)

    def stop(self) -> list[asyncio.Task[None]]:
        """Disconnect; returns what is to be waited for."""
        for task in self._tasks:
            task.cancel()
        return self._tasks


def _expect_nothing(frames: object) -> None:
    """Whoever was dialled has nothing to say on this connection but answers to pings."""
