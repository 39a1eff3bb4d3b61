"""From `kvshim.rpc` methods to grpc handlers: decode, run, answer, and turn errors to statuses.

Every path a call can end on is in `MethodRunner._serve`: a handler's RequestError, a client that
left, a server that stops, a bug. Clients see a status and a short text, never a traceback.
Event loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, assert_never

import grpc
from google.protobuf.message import Message

from kvshim.errors import Code, InternalError, RequestError, Stopped
from kvshim.metrics.calls import CallMetrics
from kvshim.rpc import Bidi, Method, Reply, ServerStream, SlicedBody, Unary
from kvshim.transport.client_certs import CertificateRefused, ClientCertificatePolicy
from kvshim.transport.codec import (
    CLIENT_API_VERSION,
    decode,
    encode,
    kind_of,
    unknown_path,
)
from kvshim.transport.grpcio_calls import GrpcioBidiCall, GrpcioCall, ServicerContext, write
from kvshim.transport.inflight import InFlight

STATUS_CODES = {code: getattr(grpc.StatusCode, code.name) for code in Code}

Task: TypeAlias = "asyncio.Task[Any]"
Serve: TypeAlias = Callable[[], Awaitable[bytes | None]]
LogFailure: TypeAlias = Callable[[str, BaseException], None]
"""Told the path of a method and the exception that no handler should have let through."""


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """What all methods of one server share."""

    message_bytes_max: int
    policy: ClientCertificatePolicy | None
    log_failure: LogFailure


class MethodRunner:
    """Runs the calls of one method; subclasses know its shape."""

    def __init__(
        self, method: Method, metrics: CallMetrics, inflight: InFlight, options: HandlerOptions
    ) -> None:
        self._path = method.path
        self._request = method.request
        self._metrics = metrics.method(kind_of(method), method.path)
        self._inflight = inflight
        self._options = options

    def _decode(self, data: bytes) -> Message:
        self._metrics.message_received(len(data))
        return decode(self._request, data, self._options.message_bytes_max)

    async def _run(self, call: GrpcioCall, task: Task, serve: Serve) -> bytes | None:
        """Serve and count one call, and end it with its status."""
        began = time.monotonic()
        self._metrics.call_started(call.metadata.get(CLIENT_API_VERSION))
        code = Code.OK
        try:
            return await self._serve(call, task, serve)
        except RequestError as error:
            code = error.code
            await call.context.abort(STATUS_CODES[code], error.message)
        except asyncio.CancelledError:
            code = Code.DEADLINE_EXCEEDED if call.is_past_deadline() else Code.CANCELLED
            raise
        finally:
            self._metrics.call_ended(code, time.monotonic() - began)
        return None

    async def _serve(self, call: GrpcioCall, task: Task, serve: Serve) -> bytes | None:
        """Only a RequestError, or the CancelledError of a client that has left, leaves here."""
        try:
            self._admit(call)
            return await serve()
        except RequestError:
            raise
        except asyncio.CancelledError as error:
            if self._inflight.was_stopped(task):
                raise Stopped from None
            if call.is_dead or task.cancelling():
                raise
            # Somebody cancelled what the handler awaited; unanswered, the client would wait on.
            self._options.log_failure(self._path, error)
            raise InternalError from error
        except Exception as error:
            self._options.log_failure(self._path, error)
            raise InternalError from error

    def _admit(self, call: GrpcioCall) -> None:
        """Refuse clients whose certificate the flags do not allow; plain listeners have none."""
        policy = self._options.policy
        if policy is None or not call.is_secure():
            return
        certificate = call.peer_certificate()
        if certificate is None:
            raise CertificateRefused
        policy.admit(certificate)


class UnaryRunner(MethodRunner):
    def __init__(
        self, method: Unary, metrics: CallMetrics, inflight: InFlight, options: HandlerOptions
    ) -> None:
        super().__init__(method, metrics, inflight, options)
        self._handler = method.handler

    async def serve(self, data: bytes, context: ServicerContext) -> bytes | None:
        call = GrpcioCall(context)

        async def answer() -> bytes:
            reply = await whole(await self._handler(self._decode(data), call))
            self._metrics.message_sent(len(reply))
            return reply

        with self._inflight.unary() as task:
            return await self._run(call, task, answer)


class ServerStreamRunner(MethodRunner):
    def __init__(
        self,
        method: ServerStream,
        metrics: CallMetrics,
        inflight: InFlight,
        options: HandlerOptions,
    ) -> None:
        super().__init__(method, metrics, inflight, options)
        self._handler = method.handler

    async def serve(self, data: bytes, context: ServicerContext) -> None:
        call = GrpcioCall(context)

        async def answer() -> None:
            replies = self._handler(self._decode(data), call)
            try:
                async for reply in replies:
                    message = encode(reply)
                    await write(call, message)
                    self._metrics.message_sent(len(message))
            finally:
                # A generator left halfway must free what it holds now, not when it is collected.
                if isinstance(replies, AsyncGenerator):
                    await replies.aclose()

        with self._inflight.stream() as task:
            await self._run(call, task, answer)


class BidiRunner(MethodRunner):
    def __init__(
        self, method: Bidi, metrics: CallMetrics, inflight: InFlight, options: HandlerOptions
    ) -> None:
        super().__init__(method, metrics, inflight, options)
        self._handler = method.handler

    async def serve(self, _requests: object, context: ServicerContext) -> None:
        bytes_max = self._options.message_bytes_max
        call = GrpcioBidiCall(context, self._request, bytes_max, self._metrics)

        async def answer() -> None:
            await self._handler(call)

        with self._inflight.stream() as task:
            await self._run(call, task, answer)


def grpc_handler(
    method: Method, metrics: CallMetrics, inflight: InFlight, options: HandlerOptions
) -> object:
    """The handler grpc wants; bytes in and out, so that decoding errors are ours to word."""
    handler: object
    match method:
        case Unary():
            unary = UnaryRunner(method, metrics, inflight, options)
            handler = grpc.unary_unary_rpc_method_handler(unary.serve)
        case ServerStream():
            stream = ServerStreamRunner(method, metrics, inflight, options)
            handler = grpc.unary_stream_rpc_method_handler(stream.serve)
        case Bidi():
            bidi = BidiRunner(method, metrics, inflight, options)
            handler = grpc.stream_stream_rpc_method_handler(bidi.serve)
        case _:
            assert_never(method)
    return handler


async def whole(reply: Reply) -> bytes:
    """The bytes of a reply; grpcio sends no message in parts, so slices are joined."""
    if not isinstance(reply, SlicedBody):
        return encode(reply)
    body = b"".join([part async for part in reply.slices])
    if len(body) != reply.length:
        raise ValueError(f"sliced body of {reply.length} bytes came as {len(body)}")
    return body


class CallDetails(Protocol):
    """What grpc tells of a call before it has a handler."""

    @property
    def method(self) -> str: ...


class MethodTable:
    """What grpc asks for the handler of a path; paths nobody serves get grpc-go's answer."""

    def __init__(self, handlers: Mapping[str, object]) -> None:
        self._handlers = dict(handlers)
        self._services = {path.removeprefix("/").rpartition("/")[0] for path in handlers}

    def service(self, details: CallDetails) -> object:
        return self._handlers.get(details.method) or self._unknown(details.method)

    def _unknown(self, path: str) -> object:
        text = unknown_path(path, self._services)

        async def refuse(_requests: object, context: ServicerContext) -> None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, text)

        handler: object = grpc.stream_stream_rpc_method_handler(refuse)
        return handler
