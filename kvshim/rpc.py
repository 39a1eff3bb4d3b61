"""The seam between transports and handlers: calls as messages, with no trace of any RPC library.

A service is a table of `Method`s. A transport decodes frames to request messages, runs the
handler on the event loop and sends what it returns; `kvshim.errors.RequestError` is the only way
a handler fails a call. Everything here belongs to the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from google.protobuf.message import Message

MESSAGE_BYTES_MAX = (1 << 32) - 1
"""The longest message that a gRPC frame can hold."""


@dataclass(frozen=True, slots=True)
class SlicedBody:
    """One response message of known length that leaves in slices, so it is never whole in memory.

    `length` is in bytes; `slices` yields exactly that many and raises `RequestError` if it
    cannot, upon which the transport resets the stream: it never pads.
    """

    length: int
    slices: AsyncIterator[bytes]


Reply: TypeAlias = "Message | bytes | SlicedBody"
"""A response: a message, its encoded bytes, or its bytes in slices."""


class Call(Protocol):
    """What a handler may know of the call it serves."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Request metadata by lower-case name; the first value of each; no binary headers."""

    @property
    def peer(self) -> str:
        """The client's address, for logs."""

    @property
    def common_name(self) -> str | None:
        """The name in the client's verified certificate; None without one, and for the gateway."""

    def deadline_seconds(self) -> float | None:
        """Seconds left until the client's deadline, or None when it set none."""


class BidiCall(Call, Protocol):
    """A bidirectional stream, used by one reader and any number of ordered writers."""

    async def receive(self) -> Message | None:
        """The next request message, or None once the client has half-closed.

        Raises `asyncio.CancelledError` in the handler when the client is gone.
        """

    async def send(self, reply: Message | bytes) -> None:
        """Send one response message, waiting while the client's window is closed."""


UnaryHandler = Callable[..., Awaitable[Reply]]
QuickHandler = Callable[..., "Reply | None"]
StreamHandler = Callable[..., AsyncIterator["Message | bytes"]]
BidiHandler = Callable[[BidiCall], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Unary:
    """`async handler(request, call) -> Reply`."""

    path: str
    request: type[Message]
    handler: UnaryHandler
    at_once: QuickHandler | None = None
    """`at_once(request, call)` answers what takes no waiting, else None, and then the handler is
    asked: a task would cost more than a short read."""
    waits: bool = False
    """It may take as long as other clients please, so its own client's leaving must be noticed."""


@dataclass(frozen=True, slots=True)
class ServerStream:
    """`async def handler(request, call)` yielding one response message after another."""

    path: str
    request: type[Message]
    handler: StreamHandler


@dataclass(frozen=True, slots=True)
class Bidi:
    """`async handler(call)`; returning ends the stream with OK."""

    path: str
    request: type[Message]
    handler: BidiHandler


Method: TypeAlias = Unary | ServerStream | Bidi
"""`path` is the HTTP/2 path, such as `/etcdserverpb.KV/Range`."""


def service_of(method: Method) -> str:
    """The full name of the service that a method belongs to, such as `etcdserverpb.KV`."""
    return method.path.split("/")[1]
