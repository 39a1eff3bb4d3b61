"""A client's side of a connection without sockets: writes frames, reads what the server wrote.

Its parsing is its own, and its HPACK is the library's, so that a mistake of ours shows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hpack import Decoder, Encoder

from kvshim.transport.http2.connection import Connection, ConnectionOptions
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.stream import Stream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION = 9
END_STREAM, END_HEADERS, PADDED, PRIORITY_FLAG, ACK = 1, 4, 8, 0x20, 1

PATH = "/test.Handlers/Unary"
BIDI_PATH = "/test.Handlers/Bidi"


def raw_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    length = struct.pack(">L", len(payload))[1:]
    return length + bytes([kind, flags]) + struct.pack(">L", stream_id) + payload


def message(data: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BL", flag, len(data)) + data


def request_headers(path: str = PATH, **more: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *((name.replace("_", "-"), value) for name, value in more.items()),
    ]


@dataclass
class Answer:
    """What the server sent on one stream."""

    headers: list[list[tuple[str, str]]] = field(default_factory=list)
    data: bytes = b""
    frames: list[int] = field(default_factory=list)
    """Sizes of DATA frames."""
    ended: bool = False
    reset: int | None = None

    @property
    def fields(self) -> dict[str, str]:
        return dict(pair for block in self.headers for pair in block)


class Peer:
    """Drives a connection; what the server says is sorted by stream."""

    def __init__(self, *, greet: bool = True, **options: Any) -> None:
        limits = options.pop("limits", Limits())
        settings = {
            "message_bytes_max": 4 * 1024 * 1024,
            "streams_max": 1000,
            "between_pings_seconds": 5.0,
            "bidi_paths": frozenset({BIDI_PATH}),
        }
        self.connection = Connection(ConnectionOptions(**{**settings, **options}, limits=limits))
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.now = 1000.0
        self.answers: dict[int, Answer] = {}
        self.control: list[tuple[int, int, int, bytes]] = []
        self.events: list[Any] = []
        self._partial: list[Any] | None = None
        if greet:
            self.send(PREFACE + raw_frame(SETTINGS, 0, 0))

    # --- Sending

    def send(self, data: bytes) -> list[Any]:
        """Give these bytes to the server; its events."""
        events = self.connection.receive(data, self.now)
        self.events += events
        return events

    def frame(self, kind: int, flags: int, stream_id: int, payload: bytes = b"") -> list[Any]:
        return self.send(raw_frame(kind, flags, stream_id, payload))

    def headers(
        self, stream_id: int, fields: Iterable[tuple[str, str]] | None = None, flags: int = 0
    ) -> list[Any]:
        block = self.encoder.encode(fields if fields is not None else request_headers())
        return self.frame(HEADERS, END_HEADERS | flags, stream_id, block)

    def open(self, stream_id: int = 1, path: str = PATH) -> Stream:
        """Open a call and return the server's stream."""
        [event] = self.headers(stream_id, request_headers(path))
        stream = event.stream
        assert isinstance(stream, Stream)
        return stream

    def settings(self, *values: tuple[int, int]) -> list[Any]:
        return self.frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in values))

    def open_window(self, stream_id: int, increment: int) -> list[Any]:
        return self.frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment))

    # --- Reading

    def hear(self, pump_bytes: int = 1 << 30) -> bytes:
        """Take what the server wrote, and sort it."""
        self.connection.sender.pump(pump_bytes)
        heard = b"".join(self.connection.sender.take())
        data = heard
        while data:
            length = int.from_bytes(data[:3], "big")
            kind, flags = data[3], data[4]
            stream_id = int.from_bytes(data[5:9], "big")
            payload, data = data[9 : 9 + length], data[9 + length :]
            assert len(payload) == length, "a frame is written whole"
            self._sort(kind, flags, stream_id, payload)
        return heard

    def answer(self, stream_id: int = 1) -> Answer:
        self.hear()
        return self.answers.setdefault(stream_id, Answer())

    def went_away(self) -> tuple[int, int, str] | None:
        """Last stream, code and text of the GOAWAY, if there was one."""
        self.hear()
        for kind, _, _, payload in self.control:
            if kind == GOAWAY:
                last, code = struct.unpack(">LL", payload[:8])
                return last, code, payload[8:].decode()
        return None

    def updates(self, stream_id: int) -> int:
        """How much window the server gave back, in all."""
        self.hear()
        return sum(
            struct.unpack(">L", payload)[0]
            for kind, _, where, payload in self.control
            if kind == WINDOW_UPDATE and where == stream_id
        )

    def _sort(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        answer = self.answers.setdefault(stream_id, Answer()) if stream_id else Answer()
        match kind:
            case 0:
                answer.data += payload
                answer.frames.append(len(payload))
            case 1 | 9:
                self._block(answer, kind, flags, payload)
            case 3:
                answer.reset = struct.unpack(">L", payload)[0]
            case _:
                self.control.append((kind, flags, stream_id, payload))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            assert not answer.ended, "a stream ends once"
            answer.ended = True

    def _block(self, answer: Answer, kind: int, flags: int, payload: bytes) -> None:
        assert (kind == CONTINUATION) == (self._partial is not None)
        self._partial = [*(self._partial or []), payload]
        if flags & END_HEADERS:
            block, self._partial = b"".join(self._partial), None
            answer.headers.append([(str(n), str(v)) for n, v in self.decoder.decode(block)])
