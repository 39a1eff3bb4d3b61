"""Frames as bytes: cutting what arrives into frames, and writing those that a server sends.

Parsing is by `struct` on purpose: a frame costs about a microsecond, which is most of what makes
this transport faster than a library of objects. No state but the bytes of an unfinished frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct

from kvshim.transport.http2.wire import (
    ACK,
    FRAME_BYTES_DEFAULT,
    FRAME_HEADER_BYTES,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    STREAM_ID_MASK,
    ConnectionFault,
    ErrorCode,
    FrameType,
    Setting,
)

HEADER = Struct(">HBBBL")
"""Length (its high two bytes, then the low one), type, flags, stream."""
SETTING = Struct(">HL")
WORD = Struct(">L")
TWO_WORDS = Struct(">LL")

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream id, payload."""


class FrameReader:
    """Bytes in, whole frames out. Holds at most one unfinished frame."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_DEFAULT) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._rest = b""
        self._is_preface_read = False

    def read(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises ConnectionFault between two of them.

        To be run to its end, since the rest of the bytes is kept then.
        """
        if self._rest:
            data = self._rest + data
        position = 0
        if not self._is_preface_read:
            if not self._take_preface(data):
                return
            position = len(PREFACE)
        end = len(data)
        try:
            while end - position >= FRAME_HEADER_BYTES:
                high, low, kind, flags, stream_id = HEADER.unpack_from(data, position)
                length = high << 8 | low
                if length > self._frame_bytes_max:
                    raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame too large")
                begin = position + FRAME_HEADER_BYTES
                if end - begin < length:
                    break
                position = begin + length
                yield kind, flags, stream_id & STREAM_ID_MASK, data[begin:position]
        finally:
            self._rest = data[position:]

    def _take_preface(self, data: bytes) -> bool:
        if not data.startswith(PREFACE):
            if not PREFACE.startswith(data):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
            self._rest = data
            return False
        self._is_preface_read = True
        return True


def frame(kind: FrameType, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame as it goes over the wire."""
    length = len(payload)
    return HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def settings(values: Mapping[Setting, int]) -> bytes:
    payload = b"".join(SETTING.pack(name, value) for name, value in values.items())
    return frame(FrameType.SETTINGS, 0, 0, payload)


SETTINGS_ACK = frame(FrameType.SETTINGS, ACK, 0)


def ping(payload: bytes) -> bytes:
    return frame(FrameType.PING, 0, 0, payload)


def ping_ack(payload: bytes) -> bytes:
    return frame(FrameType.PING, ACK, 0, payload)


def go_away(last_stream_id: int, code: ErrorCode, text: bytes = b"") -> bytes:
    return frame(FrameType.GOAWAY, 0, 0, TWO_WORDS.pack(last_stream_id, code) + text)


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    return frame(FrameType.RST_STREAM, 0, stream_id, WORD.pack(code))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, WORD.pack(increment))


def parse_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    if len(payload) % SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a bad length")
    return SETTING.iter_unpack(payload)


def parse_word(payload: bytes, what: str) -> int:
    """The only number of a RST_STREAM or WINDOW_UPDATE frame."""
    if len(payload) != WORD.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{what} of a bad length")
    value: int = WORD.unpack(payload)[0]
    return value


def unpad(payload: bytes) -> bytes:
    """The content of a frame with the PADDED flag."""
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a length")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - padding]


def header_fragment(flags: int, stream_id: int, payload: bytes) -> bytes:
    """The header block's part in a HEADERS frame. Priorities are checked and forgotten."""
    if flags & PADDED:
        payload = unpad(payload)
    if flags & PRIORITY_FLAG:
        if len(payload) < 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
        check_dependency(stream_id, payload)
        payload = payload[5:]
    return payload


def check_dependency(stream_id: int, priority: bytes) -> None:
    """A stream cannot come after itself (RFC 7540, 5.3.1); nothing else of priorities matters."""
    depends_on: int = WORD.unpack_from(priority)[0] & STREAM_ID_MASK
    if depends_on == stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
