"""Streams of one connection: their states (RFC 9113, 5.1), windows and what waits in them.

        +------ HEADERS ------+
        v                     |
      OPEN -- client ends --> HALF_CLOSED_REMOTE
        |                     |
    server ends           server ends
        v                     v
    HALF_CLOSED_LOCAL ----> CLOSED <-- RST_STREAM from any state
                 client ends

A server never waits in HALF_CLOSED_LOCAL: whoever has its answer is told to send no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import IntEnum, auto

from kvshim.transport.http2.messages import BodyReader, MessageReader
from kvshim.transport.http2.request import RequestHead

RESET_REMEMBERED_MAX = 1024
"""Streams that we reset, whose frames may be under way still and are no fault of the client."""


class State(IntEnum):
    # Of integers, which hash faster than names do.
    OPEN = auto()
    HALF_CLOSED_REMOTE = auto()
    HALF_CLOSED_LOCAL = auto()
    CLOSED = auto()


CLIENT_ENDS = {
    State.OPEN: State.HALF_CLOSED_REMOTE,
    State.HALF_CLOSED_LOCAL: State.CLOSED,
}
SERVER_ENDS = {
    State.OPEN: State.HALF_CLOSED_LOCAL,
    State.HALF_CLOSED_REMOTE: State.CLOSED,
}


class Stream:
    """One call, as far as the wire is concerned. Only this package's sans-I/O part writes it."""

    __slots__ = (
        "end_block",
        "has_headers",
        "head",
        "held",
        "id",
        "is_discarding",
        "is_in_backlog",
        "is_waited_for",
        "progress",
        "queue",
        "queued",
        "reader",
        "receive_window",
        "received",
        "refusal",
        "seen_progress",
        "send_window",
        "stalled_since",
        "state",
        "withheld",
        "withholds",
    )

    def __init__(
        self,
        stream_id: int,
        head: RequestHead,
        reader: MessageReader | BodyReader,
        windows: tuple[int, int],
    ) -> None:
        self.id = stream_id
        self.head = head
        self.state = State.OPEN
        self.reader = reader
        self.receive_window, self.send_window = windows
        self.received = 0
        """Bytes of DATA so far, for content-length."""
        self.withholds = False
        """Whether messages are taken one by one, so that the window waits for the handler."""
        self.withheld = 0
        """Bytes of messages that the handler has not taken yet."""
        self.held = 0
        """Bytes that arrived and are not with a handler, as far as they count."""
        self.is_discarding = False
        """A request whose answer is known already: what else arrives is dropped."""
        self.refusal: bytes | None = None
        """The header block that answers a request which is no call."""

        self.has_headers = False
        """Whether the response's headers are out."""
        self.queue: deque[bytes | memoryview] = deque()
        """What the windows do not let out yet."""
        self.queued = 0
        """Its bytes."""
        self.end_block: bytes | None = None
        """The trailers that follow the queue; empty ends the stream without any."""
        self.is_in_backlog = False
        self.is_waited_for = False
        """Whether somebody wants to know when the queue has become short."""
        self.progress = 0
        """Bytes that left the queue, ever."""
        self.seen_progress = 0
        self.stalled_since = 0.0


class StreamTable:
    """The streams that are not closed, and what must be known of those that are."""

    def __init__(self) -> None:
        self.open: dict[int, Stream] = {}
        self.highest_id = 0
        self.queued = 0
        """Bytes that wait in all streams."""
        self.held = 0
        """Bytes that arrived on all streams and are not with a handler."""
        self._reset: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self.open)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.open.values())

    def get(self, stream_id: int) -> Stream | None:
        return self.open.get(stream_id)

    def add(self, stream: Stream) -> None:
        self.open[stream.id] = stream

    def close(self, stream: Stream) -> None:
        """The stream is over; what it still held is forgotten."""
        stream.state = State.CLOSED
        stream.queue.clear()
        self.queued -= stream.queued
        stream.queued = 0
        if stream.held:
            self.forget_held(stream)
        self.open.pop(stream.id, None)

    def forget_held(self, stream: Stream) -> None:
        """What the stream holds counts no longer: it is over, or its handler takes it soon."""
        self.held -= stream.held
        stream.held = 0

    def is_idle(self, stream_id: int) -> bool:
        """Whether the client has not opened this stream yet."""
        return stream_id > self.highest_id

    def remember_reset(self, stream_id: int) -> None:
        """We ended this stream before its client had; its frames may arrive for a while."""
        self._reset[stream_id] = None
        if len(self._reset) > RESET_REMEMBERED_MAX:
            del self._reset[next(iter(self._reset))]

    def was_reset(self, stream_id: int) -> bool:
        return stream_id in self._reset

    def forget_reset(self, stream_id: int) -> bool:
        """The client ends such a stream, too: no more is under way. False if it is no such."""
        if stream_id not in self._reset:
            return False
        del self._reset[stream_id]
        return True
