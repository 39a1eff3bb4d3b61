"""Frames about the connection itself: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, PRIORITY. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from kvshim.transport.http2 import frames
from kvshim.transport.http2.limits import FloodGuard
from kvshim.transport.http2.pings import PingPolicy
from kvshim.transport.http2.sender import Sender
from kvshim.transport.http2.stream import StreamTable
from kvshim.transport.http2.wire import (
    ACK,
    FRAME_BYTES_DEFAULT,
    FRAME_BYTES_MOST,
    ConnectionFault,
    ErrorCode,
    FrameType,
    Setting,
    StreamFault,
)

Handle = Callable[[int, int, bytes], None]
"""Flags, stream id, payload of a frame."""

PING_BYTES = 8
PRIORITY_BYTES = 5
GOAWAY_BYTES_MIN = 8


class ControlFrames:
    """Obeys, answers or ignores them for one connection."""

    def __init__(
        self,
        streams: StreamTable,
        sender: Sender,
        guard: FloodGuard,
        pings: PingPolicy,
        on_ping_ack: Callable[[bytes], None],
    ) -> None:
        self._streams = streams
        self._sender = sender
        self._guard = guard
        self._pings = pings
        self._on_ping_ack = on_ping_ack

    def handles(self) -> dict[int, Handle]:
        return {
            FrameType.PRIORITY: self._priority,
            FrameType.SETTINGS: self._settings,
            FrameType.PUSH_PROMISE: self._push_promise,
            FrameType.PING: self._ping,
            FrameType.GOAWAY: self._go_away,
            FrameType.WINDOW_UPDATE: self._window_update,
            FrameType.CONTINUATION: self._continuation,
        }

    def _priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        self._guard.idle_frame()
        if not stream_id:
            raise _protocol_error("PRIORITY without a stream")
        if len(payload) != PRIORITY_BYTES:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a bad length")
        frames.check_dependency(stream_id, payload)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _protocol_error("SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS ACK with content")
            self._guard.idle_frame()
            return
        self._guard.settings()
        for name, value in frames.parse_settings(payload):
            self._apply(name, value)
        self._sender.control(frames.SETTINGS_ACK)

    def _apply(self, name: int, value: int) -> None:
        match name:
            case Setting.HEADER_TABLE_SIZE:
                self._sender.set_table_bytes(value)
            case Setting.ENABLE_PUSH:
                if value > 1:
                    raise _protocol_error("ENABLE_PUSH is 0 or 1")
            case Setting.INITIAL_WINDOW_SIZE:
                self._sender.set_initial_window(value)
            case Setting.MAX_FRAME_SIZE:
                if not FRAME_BYTES_DEFAULT <= value <= FRAME_BYTES_MOST:
                    raise _protocol_error("MAX_FRAME_SIZE out of range")
                self._sender.set_frame_bytes_max(value)
            case _:
                # What concerns pushes or our short header lists, and what is not known.
                pass

    def _push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise _protocol_error("PUSH_PROMISE from a client")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _protocol_error("PING on a stream")
        if len(payload) != PING_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING of a bad length")
        if flags & ACK:
            self._guard.idle_frame()
            self._on_ping_ack(payload)
            return
        self._sender.control(frames.ping_ack(payload))
        self._pings.received(self._guard.now, has_sent=self._sender.has_sent)
        self._sender.has_sent = False

    def _go_away(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """The client opens no more streams; it still wants what is open."""
        if stream_id:
            raise _protocol_error("GOAWAY on a stream")
        if len(payload) < GOAWAY_BYTES_MIN:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a bad length")
        self._guard.idle_frame()

    def _window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        increment = frames.parse_word(payload, "WINDOW_UPDATE") & 0x7FFFFFFF
        if not stream_id:
            if not increment:
                raise _protocol_error("WINDOW_UPDATE by nothing")
            self._sender.open_window(increment)
            return
        if self._streams.is_idle(stream_id):
            raise _protocol_error("WINDOW_UPDATE on an idle stream")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not increment:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        self._sender.open_stream_window(stream, increment)

    def _continuation(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise _protocol_error("CONTINUATION without HEADERS")


def _protocol_error(text: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, text)
