"""One HTTP/1.1 connection: h11 for the protocol, asyncio streams for the bytes. Event loop only.

Every step has a limit of time or size, because these ports face probes, scrapers and whoever
finds them: a client that is slow, silent or too talkative loses its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from email.utils import formatdate

import h11

from kvshim.http.routes import Request, Response, Router, error_text

READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Generous for probes, tight for anybody else."""

    header_bytes_max: int = 16 * 1024
    body_bytes_max: int = 64 * 1024
    request_seconds_max: float = 10.0
    """For a request to arrive whole; on a new connection this includes its first byte."""
    idle_seconds_max: float = 75.0
    """Between two requests: longer than the usual interval of scrapes."""
    response_seconds_max: float = 30.0
    """For the handler and the client together: from the request's end to the last byte taken."""
    requests_per_connection_max: int = 10_000
    connections_max: int = 64
    handshake_seconds_max: float = 10.0


class Connection:
    """Serves requests one after the other until one side has enough."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        router: Router,
        limits: Limits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._router = router
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes_max)

    async def serve(self) -> None:
        """Returns when the connection may be closed; never raises but for cancellation."""
        with contextlib.suppress(OSError, TimeoutError, h11.LocalProtocolError):
            for _ in range(self._limits.requests_per_connection_max):
                if not await self._serve_one():
                    return
                if not await self._next_begins():
                    return

    async def _serve_one(self) -> bool:
        """Serve one request; True if another may follow."""
        try:
            async with asyncio.timeout(self._limits.request_seconds_max):
                request = await self._receive_request()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
            return False
        if request is None:
            return False
        async with asyncio.timeout(self._limits.response_seconds_max):
            await self._answer(request)
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _next_begins(self) -> bool:
        """Wait for another request; False if the client has closed."""
        if self._http.trailing_data[0]:
            return True
        async with asyncio.timeout(self._limits.idle_seconds_max):
            data = await self._reader.read(READ_BYTES)
        self._http.receive_data(data)
        return bool(data)

    async def _receive_request(self) -> Request | None:
        """The next request with its body read and dropped; None at the end of the connection."""
        request: Request | None = None
        body_bytes = 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(READ_BYTES))
            elif isinstance(event, h11.Request):
                request = _request(event)
            elif isinstance(event, h11.Data):
                body_bytes += len(event.data)
                if body_bytes > self._limits.body_bytes_max:
                    raise h11.RemoteProtocolError("body too large", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage):
                return request
            else:
                return None

    async def _answer(self, request: Request) -> None:
        response = await self._router.respond(request)
        await self._send(response, body=b"" if request.method == "HEAD" else response.body)

    async def _refuse(self, status: int) -> None:
        """Answer a request that breaks the protocol, if it can still be answered."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = error_text(status, "Bad Request", {"Connection": "close"})
            async with asyncio.timeout(self._limits.response_seconds_max):
                await self._send(response, body=response.body)

    async def _send(self, response: Response, body: bytes) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Date", formatdate(usegmt=True)),
            *response.headers.items(),
        ]
        self._write(h11.Response(status_code=response.status, headers=headers))
        if body:
            self._write(h11.Data(data=body))
        self._write(h11.EndOfMessage())
        await self._writer.drain()

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)


def _request(event: h11.Request) -> Request:
    try:
        return Request.of(event.method.decode("ascii"), event.target.decode("ascii"))
    except ValueError as error:
        raise h11.RemoteProtocolError(str(error), error_status_hint=400) from error
