"""What a connection tells whoever drives it. Tuples, since one is made for every message."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from kvshim.errors import RequestError
from kvshim.transport.http2.stream import Stream
from kvshim.transport.http2.wire import ErrorCode


class CallOpened(NamedTuple):
    """A call's headers are here; its messages follow."""

    stream: Stream
    timeout_seconds: float | None


class MessageReceived(NamedTuple):
    """One whole request message, unpacked; `is_last` if the client ended the stream with it."""

    stream: Stream
    data: bytes
    is_last: bool


class HalfClosed(NamedTuple):
    """The client sends nothing more, told apart from its last message."""

    stream: Stream


class RequestRefused(NamedTuple):
    """The request cannot be read on: the call is to be ended with this error."""

    stream: Stream
    error: RequestError


class CallReset(NamedTuple):
    """The stream is closed, by the client or for its fault: the handler is to be cancelled.

    `Connection.handler_ended` is to be called when it has ended.
    """

    stream: Stream
    code: ErrorCode | int


class ConnectionFailed(NamedTuple):
    """GOAWAY is written; nothing more is read. Send what there is to send, then close."""

    code: ErrorCode
    text: str


class Drained(NamedTuple):
    """The client has read that it is to go elsewhere; no call that it sends now is taken."""


Event: TypeAlias = (
    CallOpened
    | MessageReceived
    | HalfClosed
    | RequestRefused
    | CallReset
    | ConnectionFailed
    | Drained
)
