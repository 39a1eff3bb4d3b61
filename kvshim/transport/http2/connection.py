"""A gRPC server's side of one HTTP/2 connection, sans I/O: bytes in, typed events out.

`receive` takes what the socket gave and returns events; `sender` takes what handlers answer; the
bytes to write come from `sender.pump` and `sender.take`. Time is passed in. A fault of the client
never leaves here as an exception: it becomes RST_STREAM or GOAWAY and an event.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from kvshim.errors import MalformedMessage, RequestError
from kvshim.transport.http2 import frames
from kvshim.transport.http2.blocks import BlockReader, HeaderBlock
from kvshim.transport.http2.control import ControlFrames, Handle
from kvshim.transport.http2.events import (
    CallOpened,
    CallReset,
    ConnectionFailed,
    Drained,
    Event,
    HalfClosed,
    MessageReceived,
    RequestRefused,
)
from kvshim.transport.http2.fields import Field, FieldDecoder, refusal
from kvshim.transport.http2.limits import FloodGuard, Limits
from kvshim.transport.http2.messages import BodyReader, MessageReader
from kvshim.transport.http2.pings import PingPolicy
from kvshim.transport.http2.receiving import ReceiveWindows
from kvshim.transport.http2.request import (
    HeadTable,
    Refusal,
    check_trailers,
    parse_timeout,
)
from kvshim.transport.http2.sender import Sender
from kvshim.transport.http2.stream import CLIENT_ENDS, Stream, StreamTable
from kvshim.transport.http2.wire import (
    ACK,
    END_STREAM,
    PADDED,
    STREAM_ID_MAX,
    WINDOW_DEFAULT,
    ConnectionFault,
    ErrorCode,
    FrameType,
    Setting,
    StreamFault,
)

REFUSED_BYTES_MAX = 64 * 1024
"""Of a request that is no call, after which it is answered though it goes on."""

DRAIN_PING = b"draining"


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What all connections of one server share."""

    message_bytes_max: int
    streams_max: int
    between_pings_seconds: float
    bidi_paths: Container[str]
    """Methods whose handlers take messages one by one, so that their windows wait for them."""
    limits: Limits = field(default_factory=Limits)
    heads: HeadTable = field(default_factory=HeadTable)
    serves_http: bool = False
    """Whether requests that are no calls are answered by somebody, or refused."""


class Connection:
    """Feed it bytes, obey its events, send by its `sender`."""

    def __init__(self, options: ConnectionOptions) -> None:
        limits = options.limits
        self._options = options
        self._streams_max = min(options.streams_max, limits.streams_max)
        self.streams = StreamTable()
        self.sender = Sender(self.streams, limits.send_queue_bytes)
        self._windows = ReceiveWindows(limits, self.streams, self.sender)
        self._reader = frames.FrameReader()
        self._decoder = FieldDecoder(limits.header_list_bytes_max)
        self._blocks = BlockReader(limits)
        self._guard = FloodGuard(limits)
        self._events: list[Event] = []
        self._lingering = 0
        """Handlers that still run for streams that are closed."""
        self._refuses = False
        """Whether no more calls are taken."""
        self.is_failed = False
        self.is_established = False
        """Whether the client's preface and settings have come."""
        pings = PingPolicy(limits, options.between_pings_seconds)
        self._handles: dict[int, Handle] = {
            **ControlFrames(
                self.streams, self.sender, self._guard, pings, self._ping_answered
            ).handles(),
            FrameType.DATA: self._data,
            FrameType.HEADERS: self._headers,
            FrameType.RST_STREAM: self._rst_stream,
        }
        self._greet()

    # --- What the driver calls

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Events of these bytes, in order, at monotonic time `now`."""
        if self.is_failed:
            return []
        self._guard.now = now
        events: list[Event] = []
        self._events = events
        try:
            for kind, flags, stream_id, payload in self._reader.read(data):
                try:
                    self._frame(kind, flags, stream_id, payload)
                except StreamFault as of_stream:
                    self._fault(of_stream)
        except ConnectionFault as fault:
            self.fail(fault)
        return events

    def consumed(self, stream: Stream, size: int) -> None:
        """A handler took a message of `size` bytes: its room may be filled again."""
        self._windows.consumed(stream, size)

    def handler_ended(self) -> None:
        """The handler of a call that was reset has ended."""
        self._lingering -= 1

    def drain(self) -> None:
        """Tell the client to take its next calls elsewhere (RFC 9113, 6.8).

        Those that are under way to us meanwhile are taken. `Drained` tells when there are no more.
        """
        if not self.is_failed:
            self.sender.control(frames.go_away(STREAM_ID_MAX, ErrorCode.NO_ERROR))
            self.sender.control(frames.ping(DRAIN_PING))

    def refuse(self) -> None:
        """Take no more calls, and tell the client which was the last; those that are open go on."""
        if not self._refuses and not self.is_failed:
            self._refuses = True
            self.sender.control(frames.go_away(self.streams.highest_id, ErrorCode.NO_ERROR))

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection for this fault."""
        self.is_failed = True
        text = fault.text.encode()
        self.sender.control(frames.go_away(self.streams.highest_id, fault.code, text))
        self._events.append(ConnectionFailed(fault.code, fault.text))

    def reset_stalled(self, now: float) -> list[Event]:
        """Reset streams whose client has opened no window for too long. Call now and then."""
        stalled = []
        for stream in self.streams:
            if not stream.queued or stream.seen_progress != stream.progress:
                stream.seen_progress, stream.stalled_since = stream.progress, 0.0
            elif not stream.stalled_since:
                stream.stalled_since = now
            elif now - stream.stalled_since > self._options.limits.stall_seconds_max:
                stalled.append(stream)
        for stream in stalled:
            self.sender.reset(stream, ErrorCode.CANCEL)
        self._lingering += len(stalled)
        return [CallReset(stream, ErrorCode.CANCEL) for stream in stalled]

    # --- Frames

    def _greet(self) -> None:
        limits = self._options.limits
        mine = {
            Setting.MAX_CONCURRENT_STREAMS: self._streams_max,
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_list_bytes_max,
        }
        self.sender.control(frames.settings(mine))
        grown = limits.connection_window_bytes - WINDOW_DEFAULT
        self.sender.control(frames.window_update(0, grown))

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._blocks.is_inside:
            block = self._blocks.inside(kind, flags, stream_id, payload)
            if block is not None:
                self._header_block(block)
            return
        if not self.is_established:
            if kind != FrameType.SETTINGS or flags & ACK:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.is_established = True
        handle = self._handles.get(kind)
        if handle is not None:
            handle(flags, stream_id, payload)
        else:
            self._guard.idle_frame()

    def _fault(self, fault: StreamFault) -> None:
        self._guard.reset()
        stream = self.streams.get(fault.stream_id)
        if stream is None:
            self.sender.control(frames.rst_stream(fault.stream_id, fault.code))
            self.streams.remember_reset(fault.stream_id)
        else:
            self.sender.reset(stream, fault.code)
            self._reset(stream, fault.code)

    def _reset(self, stream: Stream, code: ErrorCode | int) -> None:
        self._lingering += 1
        self._events.append(CallReset(stream, code))

    def _ping_answered(self, payload: bytes) -> None:
        if payload == DRAIN_PING:
            self.refuse()
            self._events.append(Drained())

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        ends = flags & END_STREAM
        self._windows.received(size)
        if flags & PADDED:
            payload = frames.unpad(payload)
        if not payload and not ends:
            self._guard.idle_frame()
        stream = self.streams.get(stream_id)
        if stream is None:
            self._data_on_closed(stream_id, ends)
            return
        if stream.state not in CLIENT_ENDS:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end")
        self._windows.received_on(stream, size)
        stream.received += len(payload)
        messages = self._messages(stream, payload)
        if ends:
            self._client_ends(stream, messages)
            return
        if stream.refusal is not None and stream.received > REFUSED_BYTES_MAX:
            self.sender.end_with_block(stream, stream.refusal)
            return
        for message in messages:
            self._events.append(MessageReceived(stream, message, is_last=False))
            if stream.withholds:
                self._windows.withhold(stream, len(message))
        self._windows.replenish(stream)

    def _messages(self, stream: Stream, payload: bytes) -> list[bytes]:
        if stream.is_discarding or not payload:
            return []
        try:
            return stream.reader.read(payload)
        except RequestError as error:
            self._refuse(stream, error)
            return []

    def _refuse(self, stream: Stream, error: RequestError) -> None:
        stream.is_discarding = True
        self._events.append(RequestRefused(stream, error))

    def _client_ends(self, stream: Stream, messages: list[bytes]) -> None:
        expected = stream.head.content_length
        if expected is not None and expected != stream.received:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "not of its content-length")
        stream.state = CLIENT_ENDS[stream.state]
        if stream.held:
            self.streams.forget_held(stream)
        if stream.is_discarding:
            if stream.refusal is not None:
                self.sender.end_with_block(stream, stream.refusal)
            return
        if stream.reader.held:
            self._refuse(stream, MalformedMessage("unexpected EOF"))
        elif messages:
            last = messages.pop()
            events = self._events
            events += [MessageReceived(stream, message, is_last=False) for message in messages]
            events.append(MessageReceived(stream, last, is_last=True))
        else:
            self._events.append(HalfClosed(stream))

    def _data_on_closed(self, stream_id: int, ends: int) -> None:
        if self.streams.is_idle(stream_id) or not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on an idle stream")
        if ends and self.streams.forget_reset(stream_id):
            return
        self._guard.idle_frame()
        if not self.streams.was_reset(stream_id):
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA on a closed stream")

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._blocks.headers(flags, stream_id, payload)
        if block is not None:
            self._header_block(block)

    def _header_block(self, block: HeaderBlock) -> None:
        # Decoded whatever becomes of it: the table that later blocks rely on changes with it.
        fields = self._decoder.decode(block.data)
        stream_id = block.stream_id
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._trailers(stream, block, fields)
        elif self.streams.is_idle(stream_id):
            self._new_stream(block, fields)
        elif self.streams.was_reset(stream_id):
            self._guard.idle_frame()
        else:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")

    def _trailers(self, stream: Stream, block: HeaderBlock, fields: list[Field]) -> None:
        if stream.state not in CLIENT_ENDS:
            raise StreamFault(stream.id, ErrorCode.STREAM_CLOSED, "HEADERS after the end")
        if not block.ends_stream:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "trailers without the end")
        check_trailers(stream.id, fields)
        self._client_ends(stream, [])

    def _new_stream(self, block: HeaderBlock, fields: list[Field]) -> None:
        stream_id = block.stream_id
        self.streams.highest_id = stream_id
        if self._refuses:
            # The client knows from GOAWAY that it is to ask somebody else.
            self.streams.remember_reset(stream_id)
            return
        if max(len(self.streams), self._lingering) >= self._streams_max:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "too many streams")
        options = self._options
        head, timeout = options.heads.understand(stream_id, fields)
        is_http = head.is_http and options.serves_http
        reader: MessageReader | BodyReader
        if is_http:
            reader = BodyReader()
        else:
            reader = MessageReader(options.message_bytes_max, head.encoding)
        windows = options.limits.stream_window_bytes, self.sender.initial_window
        stream = Stream(stream_id, head, reader, windows)
        stream.withholds = is_http or head.path in options.bidi_paths
        self.streams.add(stream)
        seconds = None
        why = None if is_http else head.refusal
        if timeout is not None and not is_http:
            try:
                seconds = parse_timeout(timeout)
            except ValueError:
                why = why or Refusal.TIMEOUT
        if why is None:
            self._events.append(CallOpened(stream, seconds))
        else:
            # Answered when it has ended, as a request of HTTP is: until then it may turn out to
            # be malformed, or be taken back.
            stream.is_discarding = True
            stream.refusal = refusal(why.http_status, why.code, why.text)
        if block.ends_stream:
            self._client_ends(stream, [])

    def _rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        code = frames.parse_word(payload, "RST_STREAM")
        if self.streams.is_idle(stream_id) or not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            if not self.streams.forget_reset(stream_id):
                self._guard.idle_frame()
            return
        self._guard.reset()
        self.streams.close(stream)
        self._reset(stream, code)
