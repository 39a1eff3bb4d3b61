"""A server of a few methods that misbehave in every way a handler can, and how to call it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from kvshim.config import MetricsLevel, Scheme, Url
from kvshim.errors import Compacted
from kvshim.metrics.registry import Metrics
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Bidi, BidiCall, Call, Method, ServerStream, SlicedBody, Unary
from kvshim.transport.grpcio_server import GrpcioOptions, GrpcioServer

LOCAL = Url(Scheme.HTTP, "127.0.0.1", 0)
RANGE = rpc_pb2.RangeRequest
SERVICE = "/test.Handlers/"


class LogBook:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def _add(self, level: str, event: object, fields: dict[str, Any]) -> None:
        self.lines.append((level, str(event), fields))

    def debug(self, event: object, **fields: Any) -> None:
        self._add("debug", event, fields)

    def info(self, event: object, **fields: Any) -> None:
        self._add("info", event, fields)

    def warn(self, event: object, **fields: Any) -> None:
        self._add("warn", event, fields)

    def error(self, event: object, **fields: Any) -> None:
        self._add("error", event, fields)

    def bind(self, **_fields: Any) -> "LogBook":
        return self


class Handlers:
    """The request's key says what to do; what happened to a call is kept for the test."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.entered = asyncio.Event()
        self.calls: list[Call] = []
        self.release = asyncio.Event()

    def methods(self) -> list[Method]:
        return [
            Unary(SERVICE + "Unary", RANGE, self.unary),
            ServerStream(SERVICE + "Stream", RANGE, self.stream),
            Bidi(SERVICE + "Bidi", RANGE, self.bidi),
        ]

    async def unary(self, request: Any, call: Call) -> Any:
        self.calls.append(call)
        match request.key:
            case b"compacted":
                raise Compacted
            case b"bug":
                raise ZeroDivisionError("secret detail")
            case b"cancelled future":
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future
            case b"sliced":
                return SlicedBody(6, self._slices())
            case b"short sliced":
                return SlicedBody(7, self._slices())
            case b"wait":
                await self._wait("unary")
            case b"bytes":
                return rpc_pb2.RangeResponse(count=7).SerializeToString()
        return rpc_pb2.RangeResponse(count=len(request.key))

    async def stream(self, request: Any, _call: Call) -> AsyncIterator[Any]:
        try:
            for count in range(request.limit):
                yield rpc_pb2.RangeResponse(count=count)
            if request.key == b"wait":
                self.entered.set()
                await asyncio.sleep(60)
            if request.key == b"compacted":
                raise Compacted
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append("stream")
            raise

    async def bidi(self, call: BidiCall) -> None:
        try:
            while (request := await call.receive()) is not None:
                assert isinstance(request, rpc_pb2.RangeRequest)
                if request.key == b"compacted":
                    raise Compacted
                if request.key == b"parallel":
                    await asyncio.gather(*(call.send(_counted(i)) for i in range(request.limit)))
                if request.key == b"flood":
                    while True:
                        await call.send(b"\x20\x01" * 50_000)
                self.entered.set()  # before the answer, or it might undo a test's `clear`
                await call.send(_counted(len(request.key)))
        except asyncio.CancelledError:
            self.cancelled.append("bidi")
            raise

    async def _wait(self, name: str) -> None:
        self.entered.set()
        try:
            async with asyncio.timeout(60):
                await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    async def _slices(self) -> AsyncIterator[bytes]:
        encoded = rpc_pb2.RangeResponse(count=1, more=True).SerializeToString()
        padded = encoded + b"\x18\x00"  # `more` once more, so that there are six bytes
        for index in range(0, len(padded), 2):
            yield padded[index : index + 2]


def _counted(count: int) -> rpc_pb2.RangeResponse:
    return rpc_pb2.RangeResponse(count=count)


@dataclass
class Served:
    """A running server and a channel to it."""

    handlers: Handlers
    server: GrpcioServer
    urls: list[Url]
    channel: Any
    metrics: Metrics
    log: LogBook = field(default_factory=LogBook)

    async def unary(self, key: bytes, **options: Any) -> Any:
        options.setdefault("timeout", 10)
        return await unary(self.channel, key, **options)

    def stream(self, key: bytes, limit: int = 0, **options: Any) -> Any:
        call = self.channel.unary_stream(
            SERVICE + "Stream", _dump, rpc_pb2.RangeResponse.FromString
        )
        return call(RANGE(key=key, limit=limit), **options)

    def bidi(self, **options: Any) -> Any:
        call = self.channel.stream_stream(SERVICE + "Bidi", _dump, rpc_pb2.RangeResponse.FromString)
        return call(**options)

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def unary(channel: Any, key: bytes, **options: Any) -> Any:
    call = channel.unary_unary(SERVICE + "Unary", _dump, rpc_pb2.RangeResponse.FromString)
    return await call(RANGE(key=key), **options)


def _dump(message: Any) -> bytes:
    return bytes(message.SerializeToString())


@asynccontextmanager
async def serving(
    options: GrpcioOptions | None = None, channel_options: Any = ()
) -> AsyncIterator[Served]:
    """A server on the addresses of `options`; the channel goes to the first, without TLS."""
    options = options or GrpcioOptions(listen_urls=(LOCAL,))
    handlers, log, metrics = Handlers(), LogBook(), Metrics(MetricsLevel.EXTENSIVE)
    server = GrpcioServer(handlers.methods(), options, metrics.calls, log)
    urls = server.bind()
    await server.start()
    target = f"unix:{urls[0].host}" if urls[0].is_unix else urls[0].address
    channel = grpc.aio.insecure_channel(
        target, options=[("grpc.use_local_subchannel_pool", 1), *channel_options]
    )
    try:
        yield Served(handlers, server, urls, channel, metrics, log)
    finally:
        await channel.close()
        await server.stop(0)


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition is anything at all
            await asyncio.sleep(0.01)
