"""One HTTP/1.1 connection: h11 for the protocol, asyncio streams for the bytes. Event loop only.

Every step has a limit of time or size, because these ports face probes, scrapers and whoever
finds them: a client that is slow, silent or too talkative loses its connection.
"""

from __future__ import annotations

import asyncio
import contextlib

import h11

from kvshim.http.exchange import READ_BYTES, Http1Exchange
from kvshim.http.limits import Limits
from kvshim.http.routes import error_text, reply
from kvshim.transport.client_certs import connection_name
from kvshim.transport.http2.protocol import peer_name
from kvshim.transport.plain import Application, ClientGone, RequestLine

LEFT_BYTES_MAX = 256 * 1024
LEFT_SECONDS_MAX = 1.0
"""What is read of a body that nobody wanted: closing at once could lose the answer, and reading it
whole is more than the client deserves."""


class Connection:
    """Serves requests one after the other until one side has enough."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        application: Application,
        limits: Limits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._application = application
        self._limits = limits
        self._peer = peer_name(writer.get_extra_info("peername"))
        secured = writer.get_extra_info("ssl_object")
        self._is_secure = secured is not None
        self._common_name = connection_name(secured) or ""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes_max)

    async def serve(self) -> None:
        """Returns when the connection may be closed; never raises but for cancellation."""
        with contextlib.suppress(OSError, TimeoutError, h11.LocalProtocolError, ClientGone):
            for _ in range(self._limits.requests_per_connection_max):
                if not await self._serve_one():
                    return
                if not await self._next_begins():
                    return

    async def _serve_one(self) -> bool:
        """Serve one request; True if another may follow."""
        try:
            async with asyncio.timeout(self._limits.request_seconds_max):
                request = await self._receive_head()
        except h11.RemoteProtocolError as error:
            await self._refuse(self._exchange(RequestLine("", "")), error.error_status_hint)
            return False
        if request is None:
            return False
        exchange = self._exchange(request)
        try:
            await self._application.answer(exchange)
        except ClientGone:
            if exchange.fault is not None:
                await self._refuse(exchange, exchange.fault)
            return False
        await exchange.finish()
        await self._drop_rest(exchange)
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def _exchange(self, request: RequestLine) -> Http1Exchange:
        return Http1Exchange(self._http, self._reader, self._writer, request, self._limits)

    async def _next_begins(self) -> bool:
        """Wait for another request; False if the client has closed."""
        if self._http.trailing_data[0]:
            return True
        async with asyncio.timeout(self._limits.idle_seconds_max):
            data = await self._reader.read(READ_BYTES)
        self._http.receive_data(data)
        return bool(data)

    async def _receive_head(self) -> RequestLine | None:
        """The next request; None at the end of the connection."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(READ_BYTES))
            elif isinstance(event, h11.Request):
                return self._line(event)
            else:
                return None

    def _line(self, event: h11.Request) -> RequestLine:
        headers: dict[str, str] = {}
        for name, value in event.headers:
            headers.setdefault(name.decode("ascii"), value.decode("latin-1"))
        return RequestLine(
            event.method.decode("ascii"),
            event.target.decode("ascii"),
            headers,
            self._peer,
            self._is_secure,
            self._common_name,
        )

    async def _drop_rest(self, exchange: Http1Exchange) -> None:
        """Read what is left of a body that was not wanted, if it is little."""
        if self._http.they_are_waiting_for_100_continue:
            return
        left = LEFT_BYTES_MAX
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEFT_SECONDS_MAX):
                while left > 0 and self._http.their_state is h11.SEND_BODY:
                    left -= len(await exchange.receive())

    async def _refuse(self, exchange: Http1Exchange, status: int) -> None:
        """Answer a request that breaks the protocol, if it can still be answered."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await reply(exchange, error_text(status, "Bad Request", {"Connection": "close"}))
            await exchange.finish()
