"""The sending half of a connection: windows, queues, and bytes ready for the socket.

A message that its windows let through becomes bytes at once; the rest waits in its stream. Streams
with something to send take turns, a frame each. Owns `output`; no I/O.
"""

from __future__ import annotations

from collections import deque
from struct import Struct

from kvshim.transport.http2 import frames
from kvshim.transport.http2.fields import RESPONSE, TABLE_SIZE_ZERO, TRAILERS_OK, trailers
from kvshim.transport.http2.messages import PREFIX
from kvshim.transport.http2.stream import SERVER_ENDS, State, Stream, StreamTable
from kvshim.transport.http2.wire import (
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_DEFAULT,
    HEADER_TABLE_DEFAULT,
    WINDOW_DEFAULT,
    WINDOW_MAX,
    ConnectionFault,
    ErrorCode,
    FrameType,
    StreamFault,
)

FRAME_BYTES_SENT_MAX = 64 * 1024
"""Larger frames than this save nothing and make other streams wait."""

MESSAGE = Struct(">HBBBLBL")
"""A DATA frame's header and a message's prefix."""
_RESPONSE_LENGTH, _OK_LENGTH = len(RESPONSE), len(TRAILERS_OK)
REPLY = Struct(f">HBBBL{_RESPONSE_LENGTH}sHBBBLBL")
"""A HEADERS frame, then as MESSAGE."""
OK = Struct(f">HBBBL{_OK_LENGTH}s")
"""The trailers of a call that went well."""
_END_BOTH = END_HEADERS | END_STREAM
_PREFIX_BYTES = PREFIX.size
_DATA, _HEADERS = int(FrameType.DATA), int(FrameType.HEADERS)


class Sender:
    """Everything that goes out on one connection. What is sent on closed streams is dropped."""

    def __init__(self, streams: StreamTable, send_queue_bytes: int) -> None:
        self._streams = streams
        self.send_queue_bytes = send_queue_bytes
        self.output: list[bytes | memoryview] = []
        self.output_bytes = 0
        """Of DATA in `output`, roughly; what bounds a turn's writing."""
        self.window = WINDOW_DEFAULT
        self.initial_window = WINDOW_DEFAULT
        self.frame_bytes_max = FRAME_BYTES_DEFAULT
        self.has_sent = False
        """Whether headers or data went out since somebody cleared this: for the ping policy."""
        self._backlog: deque[Stream] = deque()
        self._table_bytes = HEADER_TABLE_DEFAULT
        self._block_prefix = b""

    def control(self, frame: bytes) -> None:
        """A frame that no window holds back."""
        self.output.append(frame)

    def reply(self, stream: Stream, message: bytes) -> None:
        """A unary call's answer: headers, the message and an OK."""
        length = len(message) + _PREFIX_BYTES
        if (
            length > self.frame_bytes_max
            or length > stream.send_window
            or length > self.window
            or stream.queued
            or stream.has_headers
            or self._block_prefix
        ):
            self.message(stream, message)
            self.end(stream)
            return
        if stream.state is State.CLOSED:
            return
        stream_id = stream.id
        high, low = length >> 8, length & 0xFF
        begin = (0, _RESPONSE_LENGTH, _HEADERS, END_HEADERS, stream_id, RESPONSE)
        prefix = (high, low, _DATA, 0, stream_id, 0, length - _PREFIX_BYTES)
        trailer = OK.pack(0, _OK_LENGTH, _HEADERS, _END_BOTH, stream_id, TRAILERS_OK)
        self.output += (REPLY.pack(*begin, *prefix), message, trailer)
        self.output_bytes += length
        self.window -= length
        self.has_sent = True
        self._server_ends(stream)

    def message(self, stream: Stream, message: bytes) -> None:
        """One message; the response's headers go before the first."""
        if stream.state is State.CLOSED:
            return
        self._headers_once(stream)
        length = len(message) + _PREFIX_BYTES
        if self._passes(stream, length):
            high, low = length >> 8, length & 0xFF
            prefix = MESSAGE.pack(high, low, _DATA, 0, stream.id, 0, len(message))
            self.output += (prefix, message)
            self._sent(stream, length)
        else:
            self._enqueue(stream, PREFIX.pack(0, len(message)))
            self._enqueue(stream, message)

    def begin_message(self, stream: Stream, length: int) -> None:
        """The prefix of a message of `length` bytes that come by `part`."""
        if stream.state is State.CLOSED:
            return
        self._headers_once(stream)
        self._enqueue(stream, PREFIX.pack(0, length))

    def part(self, stream: Stream, data: bytes) -> None:
        """Some bytes of a message that was begun."""
        if stream.state is State.CLOSED:
            return
        self._enqueue(stream, data)

    def end(self, stream: Stream, status: int = 0, text: str = "") -> None:
        """End the call behind whatever waits to be sent; without headers they are one frame."""
        if stream.state is State.CLOSED:
            return
        block = trailers(status, text) if status else TRAILERS_OK
        if not stream.has_headers:
            stream.has_headers = True
            block = RESPONSE + block
        if stream.queued:
            stream.end_block = block
        else:
            self._end(stream, block)

    def end_with_block(self, stream: Stream, block: bytes) -> None:
        """Answer with headers alone, for requests that are no calls."""
        stream.has_headers = True
        self._end(stream, block)

    def begin(self, stream: Stream, block: bytes) -> None:
        """The headers of a response that is none of gRPC; its body comes by `part`."""
        if stream.state is State.CLOSED:
            return
        stream.has_headers = True
        self._headers(stream, END_HEADERS, block)

    def finish(self, stream: Stream) -> None:
        """End such a response, behind whatever waits to be sent."""
        if stream.state is State.CLOSED:
            return
        if stream.queued:
            stream.end_block = b""
        else:
            self._end(stream, b"")

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream in the middle."""
        if stream.state is State.CLOSED:
            return
        self.control(frames.rst_stream(stream.id, code))
        self._streams.remember_reset(stream.id)
        self._streams.close(stream)

    def pump(self, bytes_max: int) -> list[Stream]:
        """Frame what windows allow until `output_bytes` is above `bytes_max`.

        Returns streams somebody waits for and whose queues have become short.
        """
        ready: list[Stream] = []
        backlog = self._backlog
        while backlog and self.window > 0 and self.output_bytes < bytes_max:
            stream = backlog.popleft()
            stream.is_in_backlog = False
            size = min(stream.queued, stream.send_window, self.window, self.frame_bytes_max)
            if size <= 0:
                continue
            self._frame_of_queue(stream, size)
            if stream.is_waited_for and stream.queued <= self.send_queue_bytes:
                stream.is_waited_for = False
                ready.append(stream)
            if stream.queued:
                self._into_backlog(stream)
            elif stream.end_block is not None:
                self._end(stream, stream.end_block)
        return ready

    @property
    def has_backlog(self) -> bool:
        """Whether `pump` would find something to send."""
        return bool(self._backlog) and self.window > 0

    def take(self) -> list[bytes | memoryview]:
        """The bytes to write now; they are the caller's."""
        output = self.output
        self.output = []
        self.output_bytes = 0
        return output

    # --- What the client's settings and window updates change

    def open_window(self, increment: int) -> None:
        self.window += increment
        if self.window > WINDOW_MAX:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overflows")

    def open_stream_window(self, stream: Stream, increment: int) -> None:
        if stream.send_window + increment > WINDOW_MAX:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "stream window overflows")
        stream.send_window += increment
        if stream.queued:
            self._into_backlog(stream)

    def set_initial_window(self, size: int) -> None:
        """Applies to open streams as well, whose windows may become negative."""
        if size > WINDOW_MAX:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "initial window too large")
        change = size - self.initial_window
        self.initial_window = size
        for stream in self._streams:
            if stream.send_window + change > WINDOW_MAX:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflows")
            stream.send_window += change
            if stream.queued:
                self._into_backlog(stream)

    def set_frame_bytes_max(self, size: int) -> None:
        self.frame_bytes_max = min(size, FRAME_BYTES_SENT_MAX)

    def set_table_bytes(self, size: int) -> None:
        """We use no table, but must say so when the client's memory for it shrinks."""
        if size < self._table_bytes:
            self._table_bytes = 0
            self._block_prefix = TABLE_SIZE_ZERO

    # --- Inside

    def _passes(self, stream: Stream, length: int) -> bool:
        return (
            not stream.queued
            and length <= stream.send_window
            and length <= self.window
            and length <= self.frame_bytes_max
        )

    def _sent(self, stream: Stream, length: int) -> None:
        stream.send_window -= length
        self.window -= length
        self.output_bytes += length
        self.has_sent = True

    def _headers_once(self, stream: Stream) -> None:
        if not stream.has_headers:
            stream.has_headers = True
            self._headers(stream, END_HEADERS, RESPONSE)

    def _headers(self, stream: Stream, flags: int, block: bytes) -> None:
        if self._block_prefix:
            block, self._block_prefix = self._block_prefix + block, b""
        for begin in range(0, len(block), FRAME_BYTES_DEFAULT):
            part = block[begin : begin + FRAME_BYTES_DEFAULT]
            is_last = begin + len(part) == len(block)
            kind = FrameType.CONTINUATION if begin else FrameType.HEADERS
            here = (flags & END_HEADERS if is_last else 0) | (0 if begin else flags & END_STREAM)
            self.output.append(frames.frame(kind, here, stream.id, part))
        self.has_sent = True

    def _end(self, stream: Stream, block: bytes) -> None:
        if block:
            self._headers(stream, _END_BOTH, block)
        else:
            self.output.append(frames.frame(FrameType.DATA, END_STREAM, stream.id))
        self._server_ends(stream)

    def _server_ends(self, stream: Stream) -> None:
        state = SERVER_ENDS[stream.state]
        if state is State.HALF_CLOSED_LOCAL:
            self.control(frames.rst_stream(stream.id, ErrorCode.NO_ERROR))
            self._streams.remember_reset(stream.id)
        self._streams.close(stream)

    def _enqueue(self, stream: Stream, data: bytes) -> None:
        if not data:
            return
        stream.queue.append(memoryview(data) if len(data) > self.frame_bytes_max else data)
        stream.queued += len(data)
        self._streams.queued += len(data)
        self._into_backlog(stream)

    def _into_backlog(self, stream: Stream) -> None:
        if not stream.is_in_backlog and stream.send_window > 0:
            stream.is_in_backlog = True
            self._backlog.append(stream)

    def _frame_of_queue(self, stream: Stream, size: int) -> None:
        """One DATA frame of `size` bytes, which may hold the ends of several messages."""
        header = frames.HEADER.pack(size >> 8, size & 0xFF, _DATA, 0, stream.id)
        self.output.append(header)
        left, queue = size, stream.queue
        while left:
            piece = queue[0]
            if len(piece) <= left:
                queue.popleft()
                left -= len(piece)
            else:
                queue[0] = piece[left:]
                piece = piece[:left]
                left = 0
            self.output.append(piece)
        stream.queued -= size
        self._streams.queued -= size
        stream.progress += size
        self._sent(stream, size)
