"""Which protocol a connection speaks: its first bytes say, or TLS does. Event loop only.

A client of HTTP/2 begins with a preface that no request of HTTP/1.1 resembles. Where TLS has
agreed on a protocol by ALPN nothing is looked at. Once decided, the connection belongs to the
protocol it was given to, and this one is out of its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvshim.transport.http2.wire import PREFACE

Decide = Callable[[asyncio.Transport, bytes], None]
"""Takes a connection over, with the bytes that have come already."""


class FirstBytes(asyncio.Protocol):
    """Waits for the first bytes, for a limited time, then gives the connection away."""

    def __init__(
        self,
        http2: Decide,
        http1: Decide,
        waiting: set[FirstBytes],
        seconds_max: float,
        admit: Callable[[], bool],
    ) -> None:
        self._http2 = http2
        self._http1 = http1
        self._waiting = waiting
        self._seconds_max = seconds_max
        self._admit = admit
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._admit():
            transport.abort()
            return
        self._waiting.add(self)
        secured = transport.get_extra_info("ssl_object")
        match secured.selected_alpn_protocol() if secured is not None else None:
            case "h2":
                self._give(self._http2)
            case "http/1.1":
                self._give(self._http1)
            case _:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._seconds_max, self.abort)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._data.startswith(PREFACE):
            self._give(self._http2)
        elif not PREFACE.startswith(self._data):
            self._give(self._http1)

    def connection_lost(self, _error: Exception | None) -> None:
        self._forget()
        self._transport = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _give(self, decide: Decide) -> None:
        transport, self._transport = self._transport, None
        self._forget()
        if transport is not None:
            decide(transport, self._data)

    def _forget(self) -> None:
        self._waiting.discard(self)
        if self._timer is not None:
            self._timer.cancel()
