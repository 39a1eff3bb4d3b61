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

from kvshim.errors import RequestError

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

Answer: TypeAlias = "Message | RequestError"
"""What becomes of a call that changes something."""


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

    def flush(self) -> None:
        """Nothing more is sent for now: much of it need not wait for the end of the turn."""


class Later:
    """The answer to a unary call that is under way, for callers that need no task to wait in.

    Whoever makes the answer calls `settle` once; `then` adds who is told, in order and within that
    call, or at once if the answer is there. `drop` is for the one who waits: it is not wanted any
    more. Event loop.
    """

    __slots__ = ("_answer", "_on_drop", "_steps")

    def __init__(self, on_drop: Callable[[], object]) -> None:
        self._answer: Answer | None = None
        self._on_drop = on_drop
        self._steps: list[Callable[[Answer], None]] = []

    def then(self, step: Callable[[Answer], None]) -> None:
        """Have `step` called with the answer, or with what the call fails with."""
        if self._answer is None:
            self._steps.append(step)
        else:
            step(self._answer)

    def settle(self, answer: Answer) -> None:
        """Here it is."""
        self._answer = answer
        for step in self._steps:
            step(answer)

    def drop(self) -> None:
        """Nobody is told."""
        self._steps.clear()
        self._on_drop()


UnaryHandler = Callable[..., Awaitable[Reply]]
QuickHandler = Callable[..., "Reply | Later | None"]
StreamHandler = Callable[..., AsyncIterator["Message | bytes"]]
BidiHandler = Callable[[BidiCall], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Unary:
    """`async handler(request, call) -> Reply`."""

    path: str
    request: type[Message]
    handler: UnaryHandler
    at_once: QuickHandler | None = None
    """`at_once(request, call)` answers what takes no waiting, or begins what is answered `Later`;
    None has the handler asked. A task would cost more than a short read."""
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
