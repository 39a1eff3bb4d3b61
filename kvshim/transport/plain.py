"""The seam between transports and whoever answers HTTP that is no gRPC. Event loop only.

A transport makes an `Exchange` of each request; an `Application`, injected from a room above,
answers it. So HTTP/1.1 and HTTP/2 lead to the same answers.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

HeaderList = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A request but for its body; `headers` by lower-case name, the first value of each."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    peer: str = ""
    is_secure: bool = False
    common_name: str = ""
    """Of the client's verified certificate; empty without one."""


class ClientGone(Exception):
    """The client has left or broken the protocol: there is nobody to answer."""


class Exchange(ABC):
    """One request and its response. Everything but the attributes may raise ClientGone."""

    request: RequestLine
    has_begun = False
    """Whether the response's headers are out."""
    extra_headers: HeaderList = ()
    """What every response to this request carries."""

    @abstractmethod
    async def receive(self) -> bytes:
        """The next bytes of the body; empty once it has ended."""

    @abstractmethod
    async def begin(self, status: int, headers: HeaderList) -> None:
        """Send the response's headers; without `Content-Length` the body ends with the exchange."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send some bytes of the body and wait while the client does not take them."""

    @abstractmethod
    async def gone(self) -> None:
        """Return when the client has left, which is told once its body has ended."""


class Application(Protocol):
    """Whoever answers. An answer that was not begun or not finished is the application's fault."""

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request; raises ClientGone and cancellation alone."""


class HttpFront(Application, Protocol):
    """The application of the client port, which serves HTTP/1.1 by itself."""

    @property
    def connections(self) -> int:
        """Those of HTTP/1.1 that are open."""

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve an open connection, whose first bytes are `data`, over HTTP/1.1."""

    def send_away(self) -> None:
        """End the connections of HTTP/1.1 that are open; others may come."""

    async def stop(self, grace_seconds: float) -> None:
        """Let requests finish within the grace, then end all connections."""
