"""A client that sends one gRPC request and stops reading in the middle of the answer.

HTTP/2 by hand, since no client library can be made to stop at a chosen byte. It can stop in both
ways there are: by granting no more flow-control window, or by leaving its socket full.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from enum import Enum, auto

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK = END_STREAM = 1
END_HEADERS = 4
STREAM = 1
INITIAL_WINDOW_SIZE = 4
WINDOW_BYTES = 65_535
WINDOW_BYTES_MAX = (1 << 31) - 1
RECEIVE_BUFFER_BYTES = 64 << 10
FRAME_HEADER_BYTES = 9
GRPC_HEADER_BYTES = 5


class Stall(Enum):
    """What keeps the server from sending on."""

    WINDOW = auto()
    SOCKET = auto()


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    flags: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header field that is not to be indexed; both texts are shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class StalledCall:
    """One call, read up to `pause` and from `resume` on. Blocking; one thread."""

    def __init__(self, port: int, method: str, request: bytes, stall: Stall) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", port))
        self._stall = stall
        self._buffer = bytearray()
        self.body = bytearray()
        self.ended = False
        self.reset = False
        window = WINDOW_BYTES if stall is Stall.WINDOW else WINDOW_BYTES_MAX
        headers = b"".join(
            literal(name, value)
            for name, value in (
                (":method", "POST"),
                (":scheme", "http"),
                (":path", f"/{method}"),
                (":authority", f"127.0.0.1:{port}"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            )
        )
        settings = struct.pack("!HI", INITIAL_WINDOW_SIZE, window)
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        if stall is Stall.SOCKET:
            self._grant(0, WINDOW_BYTES_MAX - WINDOW_BYTES)
        message = b"\x00" + struct.pack("!I", len(request)) + request
        self._socket.sendall(
            frame(HEADERS, END_HEADERS, STREAM, headers) + frame(DATA, END_STREAM, STREAM, message)
        )

    def read_at_least(self, size: int) -> None:
        """Read until so many bytes of the answer are there, then read no more."""
        while len(self.body) < size and not self.ended:
            self._next()

    def resume(self) -> None:
        """Read the rest of the answer."""
        if self._stall is Stall.WINDOW:
            self._grant(0, WINDOW_BYTES_MAX - WINDOW_BYTES)
            self._grant(STREAM, WINDOW_BYTES_MAX - WINDOW_BYTES)
        while not self.ended:
            self._next()

    def message(self) -> bytes:
        """The only message of a unary answer that has been read to its end."""
        assert self.ended
        assert not self.reset
        (length,) = struct.unpack_from("!I", self.body, 1)
        assert len(self.body) == GRPC_HEADER_BYTES + length
        return bytes(self.body[GRPC_HEADER_BYTES:])

    def close(self) -> None:
        """Go away without a word."""
        self._socket.close()

    def _grant(self, stream: int, size: int) -> None:
        self._socket.sendall(frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", size)))

    def _next(self) -> None:
        got = self._receive()
        match got.kind:
            case 0:
                self.body += got.payload
            case 4 if not got.flags & ACK:
                self._socket.sendall(frame(SETTINGS, ACK, 0, b""))
            case 6 if not got.flags & ACK:
                self._socket.sendall(frame(PING, ACK, 0, got.payload))
            case 3:
                self.reset = True
            case 7:
                raise ConnectionError(f"the server ended the connection: {got}")
        ended = got.kind in (DATA, HEADERS) and bool(got.flags & END_STREAM)
        self.ended = ended or self.reset

    def _receive(self) -> Frame:
        self._fill(FRAME_HEADER_BYTES)
        length = int.from_bytes(self._buffer[:3], "big")
        kind, flags = self._buffer[3], self._buffer[4]
        self._fill(FRAME_HEADER_BYTES + length)
        payload = bytes(self._buffer[FRAME_HEADER_BYTES : FRAME_HEADER_BYTES + length])
        del self._buffer[: FRAME_HEADER_BYTES + length]
        return Frame(kind, flags, payload)

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            data = self._socket.recv(RECEIVE_BUFFER_BYTES)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._buffer += data
