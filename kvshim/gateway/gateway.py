"""Answers requests of HTTP by the handlers of gRPC, with grpc-gateway's statuses. Event loop only.

A unary answer is one JSON value with its length; a stream's are lines `{"result":...}`, and its
error the last line. The calls count in the same metrics as those of gRPC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from kvshim.errors import (
    Code,
    DeadlineExceeded,
    InternalError,
    MessageTooLarge,
    RequestError,
    ResponseTooLarge,
    Stopped,
)
from kvshim.gateway.calls import GatewayCall, GatewayStream
from kvshim.gateway.mapping import compact, parse, to_json
from kvshim.gateway.routes import method_at
from kvshim.gateway.values import NotJson, ValueReader
from kvshim.logs import Event, Logger
from kvshim.metrics.calls import CallMetrics, MethodMetrics
from kvshim.rpc import Bidi, Method, Reply, ServerStream, SlicedBody, Unary, service_of
from kvshim.transport.codec import (
    CLIENT_API_VERSION,
    encode,
    kind_of,
    unknown_path,
)
from kvshim.transport.http2.request import parse_timeout
from kvshim.transport.http2.streaming import close
from kvshim.transport.inflight import InFlight
from kvshim.transport.plain import ClientGone, Exchange, HeaderList

T = TypeVar("T")

BODY_SECONDS_MAX = 60.0
"""For the body of a unary request to arrive."""

ON_LOOP_BYTES_MAX = 32 * 1024
"""Longer messages are turned to or from JSON on a thread, which takes milliseconds."""

RESPONSE_BYTES_MAX = 64 * 1024 * 1024
"""Of an answer as a message. JSON of it takes many times the memory; gRPC has no such limit."""

HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

JSON = ("Content-Type", "application/json")
OF_GRPC = ("Grpc-Metadata-Content-Type", "application/grpc")


class NoSuchPath(RequestError):
    code, text = Code.NOT_FOUND, "Not Found"


class MethodNotAllowed(RequestError):
    code, text = Code.UNIMPLEMENTED, "Method Not Allowed"


class NoMethod(RequestError):
    code = Code.UNIMPLEMENTED


class BadTimeout(RequestError):
    code = Code.INVALID_ARGUMENT


class BodyTooLarge(RequestError):
    code, text = Code.RESOURCE_EXHAUSTED, "the request's body is too large"


class Gateway:
    """The application behind `/v3/`."""

    def __init__(
        self,
        methods: Sequence[Method],
        metrics: CallMetrics,
        message_bytes_max: int,
        inflight: InFlight,
        log: Logger,
    ) -> None:
        self._methods = {method.path: method for method in methods}
        self._services = frozenset(map(service_of, methods))
        self._metrics = metrics
        self._message_bytes_max = message_bytes_max
        self._body_bytes_max = 2 * message_bytes_max
        """Base64 adds a third, and what is too large shall be told so in etcd's words."""
        self._inflight = inflight
        self._log = log

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request; raises ClientGone and cancellation alone."""
        request = exchange.request
        try:
            method = self._find(request.target.partition("?")[0], request.method)
            seconds = _timeout(request.headers.get("grpc-timeout"))
            match method:
                case Unary():
                    await self._unary(exchange, method, seconds)
                case ServerStream():
                    await self._server_stream(exchange, method, seconds)
                case Bidi():
                    await self._bidi(exchange, method, seconds)
        except RequestError as error:
            await _refuse(exchange, error)

    def _find(self, path: str, verb: str) -> Method:
        found = method_at(path)
        if found is None:
            raise NoSuchPath
        if verb != "POST":
            raise MethodNotAllowed
        method = self._methods.get(found)
        if method is None:
            raise NoMethod(unknown_path(found, self._services))
        return method

    async def _unary(self, exchange: Exchange, method: Unary, seconds: float | None) -> None:
        request = await self._request(exchange, method)
        call = GatewayCall(exchange.request, seconds)
        async with self._counted(method, call) as counts:
            with self._inflight.unary() as task:
                counts.message_received(request.ByteSize())
                work = method.handler(request, call)
                if method.waits:
                    work = _while_there(work, exchange.gone())
                reply = await self._limited(work, call, task)
                data = await _whole(reply)
                counts.message_sent(len(data))
        text = await _converted(len(data), lambda: to_json(_decoded(method, data)))
        body = text.encode()
        length = ("Content-Length", str(len(body)))
        await exchange.begin(200, (JSON, OF_GRPC, length))
        await exchange.send(body)

    async def _server_stream(
        self, exchange: Exchange, method: ServerStream, seconds: float | None
    ) -> None:
        request = await self._request(exchange, method)
        call = GatewayCall(exchange.request, seconds)

        async def serve() -> None:
            replies = method.handler(request, call)
            try:
                async for reply in replies:
                    await send(reply)
            finally:
                await close(replies)

        try:
            async with self._counted(method, call) as counts:
                counts.message_received(request.ByteSize())
                send = _Lines(exchange, method, counts).send
                with self._inflight.stream() as task:
                    await self._limited(_while_there(serve(), exchange.gone()), call, task)
        except RequestError as error:
            await _last_line(exchange, error)
        else:
            await _end_lines(exchange)

    async def _bidi(self, exchange: Exchange, method: Bidi, seconds: float | None) -> None:
        counts = self._metrics.method(kind_of(method), method.path)
        stream = GatewayStream(exchange.request, seconds, _Lines(exchange, method, counts).send)
        try:
            async with self._counted(method, stream):
                with self._inflight.stream() as task:
                    reading = self._read_values(exchange, method, stream, counts)
                    work = _while_there(method.handler(stream), reading)
                    await self._limited(work, stream, task)
        except RequestError as error:
            await _last_line(exchange, error)
        else:
            await _end_lines(exchange)

    async def _read_values(
        self, exchange: Exchange, method: Bidi, stream: GatewayStream, counts: MethodMetrics
    ) -> None:
        """Feed a stream's handler; returns when the client has left.

        As in etcd, what cannot be read ends the requests but not the stream.
        """
        reader = ValueReader(self._body_bytes_max)
        try:
            while data := await exchange.receive():
                for value in reader.read(data):
                    message = parse(method.request, value)
                    counts.message_received(message.ByteSize())
                    await stream.push(message)
        except NotJson:
            await stream.push(None)
            while await exchange.receive():
                pass
        else:
            await stream.push(None)
        await exchange.gone()

    async def _request(self, exchange: Exchange, method: Method) -> Message:
        body = await read_body(exchange, self._body_bytes_max, BODY_SECONDS_MAX)
        message = await _converted(len(body), lambda: parse(method.request, body))
        size = message.ByteSize()
        if size > self._message_bytes_max:
            raise MessageTooLarge(size, self._message_bytes_max)
        return message

    async def _limited(self, work: Awaitable[T], call: GatewayCall, task: asyncio.Task[Any]) -> T:
        """The result of a handler; its failures and the reasons to end it are RequestErrors."""
        try:
            async with asyncio.timeout(call.deadline_seconds()) as limit:
                return await work
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceeded from None
            raise
        except asyncio.CancelledError:
            if self._inflight.was_stopped(task):
                task.uncancel()
                raise Stopped from None
            raise

    @asynccontextmanager
    async def _counted(self, method: Method, call: GatewayCall) -> AsyncIterator[MethodMetrics]:
        counts = self._metrics.method(kind_of(method), method.path)
        counts.call_started(call.metadata.get(CLIENT_API_VERSION))
        code = Code.CANCELLED
        try:
            yield counts
            code = Code.OK
        except RequestError as error:
            code = error.code
            raise
        except (ClientGone, TimeoutError) as error:
            raise ClientGone from error
        except Exception as failure:
            code = Code.INTERNAL
            self._log.error(Event.HANDLER_FAILED, method=method.path, exc_info=failure)
            raise InternalError from None
        finally:
            counts.call_ended(code, asyncio.get_running_loop().time() - call.began)


class _Lines:
    """The answers of a stream, a line each."""

    def __init__(self, exchange: Exchange, method: Method, counts: MethodMetrics) -> None:
        self._exchange = exchange
        self._method = method
        self._counts = counts

    async def send(self, reply: Message | bytes) -> None:
        data = encode(reply)
        exchange = self._exchange
        self._counts.message_sent(len(data))
        line = f'{{"result":{to_json(_decoded(self._method, data))}}}\n'
        if not exchange.has_begun:
            await exchange.begin(200, (JSON, OF_GRPC))
        await exchange.send(line.encode())


async def read_body(exchange: Exchange, bytes_max: int, seconds_max: float) -> bytes:
    """The whole body; BodyTooLarge, or ClientGone if it does not come in time."""
    parts = []
    size = 0
    try:
        async with asyncio.timeout(seconds_max):
            while data := await exchange.receive():
                size += len(data)
                if size > bytes_max:
                    raise BodyTooLarge
                parts.append(data)
    except TimeoutError:
        raise ClientGone from None
    return b"".join(parts)


async def _while_there(work: Awaitable[T], leaving: Awaitable[None]) -> T:
    """The result of work that takes long, unless the client leaves before."""
    working, left = asyncio.ensure_future(work), asyncio.ensure_future(leaving)
    try:
        await asyncio.wait((working, left), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await left
            raise ClientGone
        return await working
    finally:
        working.cancel()
        left.cancel()
        await asyncio.gather(working, left, return_exceptions=True)


async def _whole(reply: Reply) -> bytes:
    if not isinstance(reply, SlicedBody):
        data = encode(reply)
        length = len(data)
    else:
        length = reply.length
        data = b""
    if length > RESPONSE_BYTES_MAX:
        if isinstance(reply, SlicedBody):
            await close(reply.slices)
        raise ResponseTooLarge(length, RESPONSE_BYTES_MAX)
    if isinstance(reply, SlicedBody):
        data = b"".join([part async for part in reply.slices])
    return data


async def _converted(size: int, convert: Callable[[], T]) -> T:
    return convert() if size <= ON_LOOP_BYTES_MAX else await asyncio.to_thread(convert)


def _decoded(method: Method, data: bytes) -> Message:
    name = method.path[1:].replace("/", ".")
    described = descriptor_pool.Default().FindMethodByName(name)
    return message_factory.GetMessageClass(described.output_type).FromString(data)


def _timeout(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return parse_timeout(header.encode("latin-1"))
    except ValueError:
        raise BadTimeout(f"invalid grpc-timeout: {header}") from None


async def _refuse(exchange: Exchange, error: RequestError) -> None:
    body = compact(_shown(error)).encode()
    headers: HeaderList = (JSON, ("Content-Length", str(len(body))))
    await exchange.begin(HTTP_STATUS[error.code], headers)
    await exchange.send(body)


async def _last_line(exchange: Exchange, error: RequestError) -> None:
    """End a stream by its error; the status can tell of it only before the first answer."""
    if not exchange.has_begun:
        await exchange.begin(HTTP_STATUS[error.code], (JSON,))
    await exchange.send(f"{compact({'error': _shown(error)})}\n".encode())


async def _end_lines(exchange: Exchange) -> None:
    """A stream without any answer has a response all the same."""
    if not exchange.has_begun:
        await exchange.begin(200, ())


def _shown(error: RequestError) -> dict[str, object]:
    return {"code": int(error.code), "message": error.message}
