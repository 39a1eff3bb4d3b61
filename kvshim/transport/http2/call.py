"""A call as handlers see it: `kvshim.rpc.Call` and `BidiCall` over a stream. Event loop only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from google.protobuf.message import Message

from kvshim.errors import RequestError
from kvshim.metrics.calls import MethodMetrics
from kvshim.rpc import Later
from kvshim.transport.codec import decode, encode
from kvshim.transport.http2.connection import Connection
from kvshim.transport.http2.stream import State, Stream

EARLY_BYTES = 16 << 10
"""Of a connection, that leave before the turn ends if their stream has no more: worth a `send` of
their own, where less shares one with the other streams."""


class Driver(Protocol):
    """The connection's I/O, as far as calls need it."""

    @property
    def connection(self) -> Connection: ...
    @property
    def peer(self) -> str: ...
    @property
    def is_secure(self) -> bool:
        """Whether the connection is TLS."""

    @property
    def common_name(self) -> str | None:
        """The name in the client's certificate, if it has shown one."""

    @property
    def is_full(self) -> bool:
        """Whether the socket has more to write than it takes."""

    def flush(self) -> None:
        """Write what was sent."""

    def flush_soon(self) -> None:
        """Write it at the end of this turn of the loop."""

    async def room(self) -> None:
        """Wait until the socket takes more."""

    def admit(self) -> None:
        """Raise CertificateRefused unless the client's certificate is welcome."""

    def forget(self, call: Http2Call) -> None:
        """The call is over."""


class Http2Call:
    """What a handler may know of its call, and how it ends."""

    __slots__ = (
        "began",
        "deadline",
        "driver",
        "has_begun",
        "is_expired",
        "is_over",
        "is_reset",
        "later",
        "loop",
        "request",
        "room",
        "slot",
        "stream",
        "task",
    )

    def __init__(
        self,
        driver: Driver,
        stream: Stream,
        timeout_seconds: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.driver = driver
        self.stream = stream
        self.loop = loop
        self.began = loop.time()
        self.deadline: float | None = None
        if timeout_seconds is not None:
            self.deadline = self.began + timeout_seconds
        self.slot = 0
        """Where `Deadlines` keeps the call."""
        self.task: asyncio.Task[Any] | None = None
        self.later: Later | None = None
        """The answer under way to a call without a task."""
        self.has_begun = False
        """Whether the task took its first step; a task cancelled before never takes one."""
        self.request: Message | None = None
        """A unary call's, once it is decoded."""
        self.is_over = False
        self.is_reset = False
        self.is_expired = False
        self.room: asyncio.Event | None = None
        """Set when the stream's queue has become short; made when somebody waits for it."""

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.stream.head.metadata

    @property
    def peer(self) -> str:
        return self.driver.peer

    @property
    def common_name(self) -> str | None:
        return self.driver.common_name

    @property
    def is_served(self) -> bool:
        """Whether a handler has the request and will answer."""
        return self.task is not None or self.later is not None

    def deadline_seconds(self) -> float | None:
        return None if self.deadline is None else self.deadline - self.loop.time()

    def cancel(self) -> None:
        """The client is gone or its time is up: the handler shall end."""
        if self.task is not None and self.has_begun:
            self.task.cancel()

    async def send_message(self, data: bytes) -> None:
        """Send one message, then wait while what is unsent is too much."""
        self.driver.connection.sender.message(self.stream, data)
        if not self._leaves():
            await self._sent()

    async def send_part(self, data: bytes) -> None:
        """Send some bytes of a message that was begun, waiting likewise."""
        self.driver.connection.sender.part(self.stream, data)
        if not self._leaves():
            await self._sent()

    def _leaves(self) -> bool:
        """Does what was sent leave with this turn, so that nobody has to wait?"""
        driver, stream = self.driver, self.stream
        driver.flush_soon()
        return not (
            driver.is_full
            or stream.queued > driver.connection.sender.send_queue_bytes
            or stream.state is State.CLOSED
        )

    async def _sent(self) -> None:
        driver, stream = self.driver, self.stream
        while driver.is_full:
            await driver.room()
        queue_max = driver.connection.sender.send_queue_bytes
        while stream.queued > queue_max:
            if self.room is None:
                self.room = asyncio.Event()
            self.room.clear()
            stream.is_waited_for = True
            await self.room.wait()
        if stream.state is State.CLOSED:
            # Nobody is there any more; the cancellation may be under way to another task.
            raise asyncio.CancelledError


class Http2BidiCall(Http2Call):
    """A stream in both directions."""

    __slots__ = ("_arrived", "_incoming", "_message_bytes_max", "_metrics", "_request")

    def __init__(
        self,
        driver: Driver,
        stream: Stream,
        timeout_seconds: float | None,
        loop: asyncio.AbstractEventLoop,
        codec: tuple[type[Message], int, MethodMetrics],
    ) -> None:
        super().__init__(driver, stream, timeout_seconds, loop)
        self._request, self._message_bytes_max, self._metrics = codec
        self._incoming: deque[bytes | RequestError | None] = deque()
        self._arrived: asyncio.Future[None] | None = None

    def push(self, item: bytes | RequestError | None) -> None:
        """A message, the reason why there will be none, or the end."""
        self._incoming.append(item)
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def receive(self) -> Message | None:
        while not self._incoming:
            self._arrived = self.loop.create_future()
            await self._arrived
        item = self._incoming[0]
        if item is None:
            return None
        if isinstance(item, RequestError):
            raise item
        self._incoming.popleft()
        self._metrics.message_received(len(item))
        self.driver.connection.consumed(self.stream, len(item))
        self.driver.flush_soon()
        return decode(self._request, item, self._message_bytes_max)

    async def send(self, reply: Message | bytes) -> None:
        data = encode(reply)
        # As `send_message`, whose coroutine would cost much of what an event costs.
        self.driver.connection.sender.message(self.stream, data)
        if not self._leaves():
            await self._sent()
        self._metrics.message_sent(len(data))

    def flush(self) -> None:
        if self.driver.connection.sender.output_bytes >= EARLY_BYTES:
            self.driver.flush()
