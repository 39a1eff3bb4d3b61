"""A grpc.aio call as handlers see it: `kvshim.rpc.Call` and `BidiCall` on a servicer context.

`grpc` has no types; `ServicerContext` is the part of its context that we use. Event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn, Protocol
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message

from kvshim.metrics.calls import MethodMetrics
from kvshim.transport.client_certs import common_name_of
from kvshim.transport.codec import decode, encode

HALF_CLOSE_SETTLE_SECONDS = 0.001
"""grpc reports a stream that its client cancelled as half-closed first, a moment before the
cancellation: waiting once per stream lets the handler see which of the two it was."""


class ServicerContext(Protocol):
    """`grpc.aio.ServicerContext`, as far as we use it."""

    async def read(self) -> object: ...
    async def write(self, message: bytes) -> None: ...
    async def abort(self, code: object, details: str) -> NoReturn: ...
    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...
    def time_remaining(self) -> float | None: ...
    def peer(self) -> str: ...
    def auth_context(self) -> Mapping[str, Sequence[bytes]]: ...


class GrpcioCall:
    """What a handler may know of its call."""

    __slots__ = ("_metadata", "_peer", "context", "is_dead")

    def __init__(self, context: ServicerContext) -> None:
        self.context = context
        # Asked for now: grpc crashes the process when asked after the call has ended.
        self._peer = context.peer()
        self.is_dead = False
        """Set when grpc has told us, by a failed operation, that nobody is at the other end."""
        self._metadata: Mapping[str, str] | None = None

    @property
    def metadata(self) -> Mapping[str, str]:
        if self._metadata is None:
            self._metadata = _text_metadata(self.context.invocation_metadata())
        return self._metadata

    @property
    def peer(self) -> str:
        """`host:port` or the path of a Unix socket, without grpc's scheme and escapes."""
        _scheme, _, address = unquote(self._peer).partition(":")
        return address

    @property
    def common_name(self) -> str | None:
        certificate = self.peer_certificate()
        return None if certificate is None else common_name_of(certificate)

    def deadline_seconds(self) -> float | None:
        return self.context.time_remaining()

    def is_past_deadline(self) -> bool:
        remaining = self.deadline_seconds()
        return remaining is not None and remaining <= 0

    def is_secure(self) -> bool:
        return "transport_security_type" in self.context.auth_context()

    def peer_certificate(self) -> bytes | None:
        """The client's certificate as PEM, if the connection has one."""
        values = self.context.auth_context().get("x509_pem_cert")
        return values[0] if values else None


class GrpcioBidiCall(GrpcioCall):
    """A stream in both directions; grpc allows one write at a time, so writers queue here."""

    __slots__ = ("_metrics", "_request", "_sending", "_size_max")

    def __init__(
        self,
        context: ServicerContext,
        request: type[Message],
        size_max: int,
        metrics: MethodMetrics,
    ) -> None:
        super().__init__(context)
        self._request = request
        self._size_max = size_max
        self._metrics = metrics
        self._sending = asyncio.Lock()

    async def receive(self) -> Message | None:
        try:
            data = await self.context.read()
        except (grpc.aio.InternalError, grpc.aio.UsageError) as error:
            raise self._died() from error
        if data is grpc.aio.EOF:
            await asyncio.sleep(HALF_CLOSE_SETTLE_SECONDS)
            return None
        assert isinstance(data, bytes), "no deserializer is registered"
        self._metrics.message_received(len(data))
        return decode(self._request, data, self._size_max)

    async def send(self, reply: Message | bytes) -> None:
        data = encode(reply)
        async with self._sending:
            await write(self, data)
        self._metrics.message_sent(len(data))

    def flush(self) -> None:
        """grpc writes at once."""

    def _died(self) -> asyncio.CancelledError:
        self.is_dead = True
        return asyncio.CancelledError()


async def write(call: GrpcioCall, data: bytes) -> None:
    """Write one message; a stream that is gone looks to the handler like its cancellation."""
    try:
        await call.context.write(data)
    except (grpc.aio.InternalError, grpc.aio.UsageError) as error:
        call.is_dead = True
        raise asyncio.CancelledError from error


def _text_metadata(pairs: Iterable[tuple[str, str | bytes]] | None) -> Mapping[str, str]:
    """The first value of each name; binary values are left out."""
    texts: dict[str, str] = {}
    for name, value in pairs or ():
        if isinstance(value, str) and not name.endswith("-bin"):
            texts.setdefault(name, value)
    return texts
