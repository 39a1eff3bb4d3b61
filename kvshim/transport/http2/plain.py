"""Requests of HTTP/2 that are no calls, as exchanges for whoever answers plain HTTP.

`PlainRunner` takes the events of such a stream as a `MethodRunner` takes those of a call. Event
loop only.
"""

from __future__ import annotations

import asyncio
from collections import deque

from kvshim.transport.client_certs import CertificateRefused
from kvshim.transport.http2 import fields
from kvshim.transport.http2.call import Driver, Http2Call
from kvshim.transport.http2.runner import RunnerOptions
from kvshim.transport.http2.stream import Stream
from kvshim.transport.http2.wire import ErrorCode
from kvshim.transport.plain import (
    Application,
    ClientGone,
    Exchange,
    HeaderList,
    HttpFront,
    RequestLine,
)

PART_BYTES_MAX = 64 * 1024
"""Of a body, after which the client's taking it is waited for."""


class PlainCall(Http2Call):
    """A stream that carries a request of HTTP, and what of its body waits to be read."""

    __slots__ = ("arrived", "body", "has_ended")

    def __init__(self, driver: Driver, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(driver, stream, None, loop)
        self.body: deque[bytes] = deque()
        self.has_ended = False
        self.arrived = asyncio.Event()


class Http2Exchange(Exchange):
    """One request and its response on a stream."""

    def __init__(self, call: PlainCall) -> None:
        head = call.stream.head
        headers = {"host": head.authority, **head.metadata}
        driver = call.driver
        self.request = RequestLine(
            head.method,
            head.path,
            headers,
            driver.peer,
            driver.is_secure,
            driver.common_name or "",
        )
        self._call = call

    async def receive(self) -> bytes:
        call = self._call
        while not call.body and not call.has_ended:
            call.arrived.clear()
            await call.arrived.wait()
        if not call.body:
            return b""
        data = call.body.popleft()
        call.driver.connection.consumed(call.stream, len(data))
        call.driver.flush_soon()
        return data

    async def begin(self, status: int, headers: HeaderList) -> None:
        self.has_begun = True
        call = self._call
        block = fields.response(status, [*headers, *self.extra_headers])
        call.driver.connection.sender.begin(call.stream, block)
        call.driver.flush_soon()

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), PART_BYTES_MAX):
            await self._call.send_part(data[start : start + PART_BYTES_MAX])

    async def gone(self) -> None:
        # A reset cancels the whole task.
        await self._call.loop.create_future()


class PlainRunner:
    """Runs the application for every request of a server that is no call."""

    def __init__(self, application: HttpFront | Application, options: RunnerOptions) -> None:
        self._application = application
        self._options = options

    def opened(self, driver: Driver, stream: Stream, _timeout_seconds: float | None) -> Http2Call:
        """A request begins; the driver tells of its other events by the methods below."""
        call = PlainCall(driver, stream, self._options.loop)
        call.task = task = self._options.loop.create_task(self._run(call))
        self._options.tasks.add(task)
        return call

    def received(self, call: Http2Call, data: bytes) -> None:
        """Some bytes of the body."""
        assert isinstance(call, PlainCall)
        call.body.append(data)
        call.arrived.set()

    def half_closed(self, call: Http2Call) -> None:
        """The body has ended."""
        assert isinstance(call, PlainCall)
        call.has_ended = True
        call.arrived.set()

    def refused(self, call: Http2Call, _error: Exception) -> None:
        """Never happens: bodies are read as they are."""
        self.half_closed(call)

    def reset(self, call: Http2Call) -> None:
        """The client is gone."""
        call.is_reset = True
        call.cancel()

    async def _run(self, call: PlainCall) -> None:
        call.has_begun = True
        is_answered = False
        try:
            with self._options.inflight.stream() as task:
                if not call.is_reset:
                    call.driver.admit()
                    exchange = Http2Exchange(call)
                    await self._application.answer(exchange)
                    is_answered = exchange.has_begun
        except (ClientGone, CertificateRefused, asyncio.CancelledError):
            pass
        except Exception as failure:
            self._options.log_failure(call.stream.head.path, failure)
        finally:
            self._options.tasks.discard(task)
        self._over(call, is_answered=is_answered)

    def _over(self, call: PlainCall, *, is_answered: bool) -> None:
        driver, stream = call.driver, call.stream
        sender = driver.connection.sender
        call.task = None
        stream.is_discarding = True
        if is_answered:
            sender.finish(stream)
        else:
            sender.reset(stream, ErrorCode.INTERNAL_ERROR)
        driver.forget(call)
        if call.is_reset:
            driver.connection.handler_ended()
        driver.flush_soon()
