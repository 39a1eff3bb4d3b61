"""A request of the gateway as handlers see it: `kvshim.rpc.Call` and `BidiCall`. Event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from google.protobuf.message import Message

from kvshim.transport.plain import RequestLine

METADATA = "grpc-metadata-"
"""Headers that begin so are metadata of the call, as in grpc-gateway."""

WAITING_MAX = 16
"""Messages of a stream that wait for its handler; until it takes one no more are read."""


class GatewayCall:
    """One request; `timeout_seconds` is what its header Grpc-Timeout says."""

    def __init__(self, request: RequestLine, timeout_seconds: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._peer = request.peer
        self.began = self._loop.time()
        self._deadline = None if timeout_seconds is None else self.began + timeout_seconds
        self._metadata = metadata_of(request.headers)

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._metadata

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def common_name(self) -> str | None:
        """Nobody: as in etcd, a certificate is no user here, whoever's it is."""
        return None

    def deadline_seconds(self) -> float | None:
        return None if self._deadline is None else self._deadline - self._loop.time()


class GatewayStream(GatewayCall):
    """A stream in both directions: JSON values of the request's body, and of the response's."""

    def __init__(
        self,
        request: RequestLine,
        timeout_seconds: float | None,
        send: Callable[[Message | bytes], Awaitable[None]],
    ) -> None:
        super().__init__(request, timeout_seconds)
        self._send = send
        self._incoming: asyncio.Queue[Message | None] = asyncio.Queue(WAITING_MAX)
        self._has_ended = False

    async def push(self, message: Message | None) -> None:
        """A message arrived, or with None the last one has; waits while too many are unread."""
        await self._incoming.put(message)

    async def receive(self) -> Message | None:
        if self._has_ended:
            return None
        message = await self._incoming.get()
        self._has_ended = message is None
        return message

    async def send(self, reply: Message | bytes) -> None:
        await self._send(reply)

    def flush(self) -> None:
        """Each line is written at once."""


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    """What a request's headers say to the handler; binary metadata cannot be given."""
    metadata = {
        name.removeprefix(METADATA): value
        for name, value in headers.items()
        if name.startswith(METADATA) and not name.endswith("-bin")
    }
    if "authorization" in headers:
        metadata["authorization"] = headers["authorization"]
    return metadata
