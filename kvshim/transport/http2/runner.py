"""From events of a stream to a handler and back: one runner a method. Event loop only.

Every path a call can end on is in `MethodRunner._run`: a handler's RequestError, a client that
left, a deadline, a server that stops, a bug. Clients see a status and a short text, never a
traceback.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, assert_never

from kvshim.errors import (
    Code,
    DeadlineExceeded,
    InternalError,
    MalformedMessage,
    RequestError,
    Stopped,
)
from kvshim.metrics.calls import CallMetrics
from kvshim.rpc import (
    Answer,
    Bidi,
    Later,
    Method,
    QuickHandler,
    ServerStream,
    SlicedBody,
    Unary,
)
from kvshim.transport.codec import (
    CLIENT_API_VERSION,
    decode,
    encode,
    kind_of,
)
from kvshim.transport.http2.call import Driver, Http2BidiCall, Http2Call
from kvshim.transport.http2.deadlines import Deadlines
from kvshim.transport.http2.stream import State, Stream
from kvshim.transport.http2.streaming import send_all, send_slices
from kvshim.transport.inflight import InFlight, Tracked

CLIENT_TIMER_SECONDS = 0.05
"""A reset so shortly before the deadline is the client's own timer, which began before ours."""

LogFailure: TypeAlias = Callable[[str, BaseException], None]
"""Told the path of a method and the exception that no handler should have let through."""


@dataclass(slots=True)
class RunnerOptions:
    """What all methods of one server share."""

    loop: asyncio.AbstractEventLoop
    message_bytes_max: int
    log_failure: LogFailure
    deadlines: Deadlines = field(init=False)
    inflight: InFlight = field(default_factory=InFlight)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.deadlines = Deadlines(self.loop)


class MethodRunner(ABC):
    """Runs the calls of one method; subclasses know its shape."""

    def __init__(self, method: Method, metrics: CallMetrics, options: RunnerOptions) -> None:
        self._path = method.path
        self._request = method.request
        self._metrics = metrics.method(kind_of(method), method.path)
        self._options = options
        self._loop = options.loop

    # --- Events of the stream

    def opened(self, driver: Driver, stream: Stream, timeout_seconds: float | None) -> Http2Call:
        """A call begins; the driver tells of its other events by the methods below."""
        call = self._new_call(driver, stream, timeout_seconds)
        self._metrics.call_started(stream.head.metadata.get(CLIENT_API_VERSION))
        if call.deadline is not None:
            self._options.deadlines.watch(call, call.deadline, self._expire)
        return call

    @abstractmethod
    def received(self, call: Http2Call, data: bytes) -> None:
        """A request message arrived."""

    @abstractmethod
    def half_closed(self, call: Http2Call) -> None:
        """No further message arrives."""

    def refused(self, call: Http2Call, error: RequestError) -> None:
        """The request cannot be read on."""
        if not call.is_served:
            self._end(call, error)

    def reset(self, call: Http2Call) -> None:
        """The client is gone."""
        call.is_reset = True
        left = call.deadline_seconds()
        if left is not None and left < CLIENT_TIMER_SECONDS:
            call.is_expired = True
        if call.task is None:
            self._over(call, _code_of_reset(call))
        else:
            call.cancel()

    def _expire(self, call: Http2Call) -> None:
        call.is_expired = True
        if call.task is None:
            self._end(call, DeadlineExceeded())
        else:
            call.cancel()

    # --- One call

    def _new_call(self, driver: Driver, stream: Stream, timeout_seconds: float | None) -> Http2Call:
        return Http2Call(driver, stream, timeout_seconds, self._loop)

    def _start(self, call: Http2Call, data: bytes) -> None:
        task = self._loop.create_task(self._run(call, data))
        call.task = task
        self._options.tasks.add(task)

    async def _run(self, call: Http2Call, data: bytes) -> None:
        """Serve and count one call, and end it with its status."""
        call.has_begun = True
        error: RequestError | None = None
        with self._track() as task:
            try:
                if call.is_reset or call.is_expired:
                    raise asyncio.CancelledError
                call.driver.admit()
                await self._serve(call, data)
            except RequestError as refusal:
                error = refusal
            except asyncio.CancelledError as cancelled:
                error = self._cancelled(call, task, cancelled)
            except Exception as failure:
                self._options.log_failure(self._path, failure)
                error = InternalError()
            finally:
                self._options.tasks.discard(task)
        self._finish(call, error)

    def _stop(self, call: Http2Call) -> None:
        self._end(call, Stopped())

    def _finish(self, call: Http2Call, error: RequestError | None) -> None:
        if error is None:
            self._over(call, Code.OK)
        else:
            self._end(call, error)

    def _cancelled(
        self, call: Http2Call, task: asyncio.Task[Any], cancelled: BaseException
    ) -> RequestError:
        if self._options.inflight.was_stopped(task):
            return Stopped()
        if call.is_expired:
            return DeadlineExceeded()
        if not call.is_reset and call.stream.state is not State.CLOSED:
            # Somebody cancelled what the handler awaited; unanswered, the client would wait on.
            self._options.log_failure(self._path, cancelled)
        return InternalError()

    @abstractmethod
    async def _serve(self, call: Http2Call, data: bytes) -> None:
        """Run the handler and send all that it answers, and an OK."""

    def _track(self) -> Tracked:
        return self._options.inflight.stream()

    def _end(self, call: Http2Call, error: RequestError) -> None:
        if call.is_reset:
            self._over(call, _code_of_reset(call))
            return
        stream = call.stream
        stream.is_discarding = True
        call.driver.connection.sender.end(stream, error.code, error.message)
        self._over(call, error.code)

    def _over(self, call: Http2Call, code: Code) -> None:
        call.is_over = True
        call.task = None  # which knows the call: not a cycle for the collector to find
        if call.later is not None:
            later, call.later = call.later, None
            later.drop()
            self._options.inflight.end(call)
        if call.slot:
            self._options.deadlines.forget(call)
        self._metrics.call_ended(code, self._loop.time() - call.began)
        driver = call.driver
        driver.forget(call)
        if call.is_reset:
            driver.connection.handler_ended()
        driver.flush_soon()


class OneRequestRunner(MethodRunner):
    """What methods with one request message have in common."""

    def received(self, call: Http2Call, data: bytes) -> None:
        # Clients send one message; a handler never learns of more.
        if not call.is_served:
            self._start(call, data)

    def half_closed(self, call: Http2Call) -> None:
        if not (call.is_served or call.is_over):
            self._end(call, MalformedMessage("unexpected EOF"))


class UnaryRunner(OneRequestRunner):
    def __init__(self, method: Unary, metrics: CallMetrics, options: RunnerOptions) -> None:
        super().__init__(method, metrics, options)
        self._handler = method.handler
        self._at_once = method.at_once

    def received(self, call: Http2Call, data: bytes) -> None:
        if call.is_served:
            return
        self._metrics.message_received(len(data))
        if self._at_once is None or not self._answered(self._at_once, call, data):
            self._start(call, data)

    def _answered(self, at_once: QuickHandler, call: Http2Call, data: bytes) -> bool:
        """Answer within this turn what takes no waiting, or begin what is answered without a task;
        False when the handler is to be asked."""
        error: RequestError | None = None
        try:
            call.driver.admit()
            call.request = decode(self._request, data, self._options.message_bytes_max)
            reply = at_once(call.request, call)
            if reply is None:
                return False
            if isinstance(reply, Later):
                self._options.inflight.begin(call, partial(self._stop, call))
                call.later = reply
                reply.then(partial(self._settled, call))
                return True
            assert not isinstance(reply, SlicedBody)
            self._reply(call, encode(reply))
        except RequestError as refusal:
            error = refusal
        except Exception as failure:
            self._options.log_failure(self._path, failure)
            error = InternalError()
        self._finish(call, error)
        return True

    def _settled(self, call: Http2Call, answer: Answer) -> None:
        """What was begun without a task has its answer."""
        error: RequestError | None = None
        if isinstance(answer, RequestError):
            error = answer
        else:
            try:
                self._reply(call, encode(answer))
            except Exception as failure:
                self._options.log_failure(self._path, failure)
                error = InternalError()
        self._finish(call, error)

    def _track(self) -> Tracked:
        return self._options.inflight.unary()

    async def _serve(self, call: Http2Call, data: bytes) -> None:
        request = call.request
        if request is None:
            request = decode(self._request, data, self._options.message_bytes_max)
        reply = await self._handler(request, call)
        if isinstance(reply, SlicedBody):
            await send_slices(call, reply)
            self._metrics.message_sent(reply.length)
        else:
            self._reply(call, encode(reply))

    def _reply(self, call: Http2Call, message: bytes) -> None:
        call.driver.connection.sender.reply(call.stream, message)
        self._metrics.message_sent(len(message))


class ServerStreamRunner(OneRequestRunner):
    def __init__(self, method: ServerStream, metrics: CallMetrics, options: RunnerOptions) -> None:
        super().__init__(method, metrics, options)
        self._handler = method.handler

    async def _serve(self, call: Http2Call, data: bytes) -> None:
        self._metrics.message_received(len(data))
        request = decode(self._request, data, self._options.message_bytes_max)
        await send_all(call, self._handler(request, call), self._metrics.message_sent)


class BidiRunner(MethodRunner):
    def __init__(self, method: Bidi, metrics: CallMetrics, options: RunnerOptions) -> None:
        super().__init__(method, metrics, options)
        self._handler = method.handler

    def opened(self, driver: Driver, stream: Stream, timeout_seconds: float | None) -> Http2Call:
        call = super().opened(driver, stream, timeout_seconds)
        self._start(call, b"")
        return call

    def received(self, call: Http2Call, data: bytes) -> None:
        assert isinstance(call, Http2BidiCall)
        call.push(data)

    def half_closed(self, call: Http2Call) -> None:
        assert isinstance(call, Http2BidiCall)
        call.push(None)

    def refused(self, call: Http2Call, error: RequestError) -> None:
        assert isinstance(call, Http2BidiCall)
        call.push(error)

    def _new_call(self, driver: Driver, stream: Stream, timeout_seconds: float | None) -> Http2Call:
        codec = (self._request, self._options.message_bytes_max, self._metrics)
        return Http2BidiCall(driver, stream, timeout_seconds, self._loop, codec)

    async def _serve(self, call: Http2Call, _data: bytes) -> None:
        assert isinstance(call, Http2BidiCall)
        await self._handler(call)
        call.driver.connection.sender.end(call.stream)


def runner_of(method: Method, metrics: CallMetrics, options: RunnerOptions) -> MethodRunner:
    match method:
        case Unary():
            return UnaryRunner(method, metrics, options)
        case ServerStream():
            return ServerStreamRunner(method, metrics, options)
        case Bidi():
            return BidiRunner(method, metrics, options)
        case _:
            assert_never(method)


def _code_of_reset(call: Http2Call) -> Code:
    return Code.DEADLINE_EXCEEDED if call.is_expired else Code.CANCELLED
