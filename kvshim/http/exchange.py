"""One request of HTTP/1.1 and its response: h11 for the protocol. Event loop only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from http.client import responses
from typing import TypeVar

import h11

from kvshim.http.limits import Limits
from kvshim.transport.plain import ClientGone, Exchange, HeaderList, RequestLine

READ_BYTES = 64 * 1024
WRITE_BYTES = 64 * 1024
"""Of a response, after which the client's taking it is waited for."""

T = TypeVar("T")


class Http1Exchange(Exchange):
    """Lives between a request's head and its response's end on one connection."""

    def __init__(
        self,
        http: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: RequestLine,
        limits: Limits,
    ) -> None:
        self.request = request
        self.fault: int | None = None
        """The status that answers a body which breaks the protocol."""
        self._http = http
        self._reader = reader
        self._writer = writer
        self._limits = limits
        self._seconds_max = limits.response_seconds_max

    async def receive(self) -> bytes:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self.fault = error.error_status_hint
                raise ClientGone from error
            if event is h11.NEED_DATA:
                await self._read_more()
            elif isinstance(event, h11.Data):
                return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) or event is h11.PAUSED:
                return b""
            else:
                raise ClientGone

    async def begin(self, status: int, headers: HeaderList) -> None:
        self.has_begun = True
        everything = [*headers, *self.extra_headers]
        reason = responses.get(status, "")
        self._write(h11.Response(status_code=status, headers=everything, reason=reason))

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), WRITE_BYTES):
            self._write(h11.Data(data=data[start : start + WRITE_BYTES]))
            await self._in_time(self._writer.drain())

    async def gone(self) -> None:
        held = 0
        while held <= READ_BYTES:
            try:
                data = await self._reader.read(READ_BYTES)
            except OSError:
                return
            if not data:
                return
            # The next request, early: it waits its turn.
            held += len(data)
            self._http.receive_data(data)
        await asyncio.get_running_loop().create_future()

    async def finish(self) -> None:
        """End the response; one that was never begun is the application's fault."""
        if not self.has_begun:
            raise ClientGone
        self._write(h11.EndOfMessage())
        await self._in_time(self._writer.drain())

    async def _read_more(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError as error:
            raise ClientGone from error
        self._http.receive_data(data)

    def _write(self, event: h11.Event) -> None:
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError as error:
            raise ClientGone from error
        if data:
            self._writer.write(data)

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._seconds_max):
                return await work
        except (TimeoutError, OSError) as error:
            raise ClientGone from error
