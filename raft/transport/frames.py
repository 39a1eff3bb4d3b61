"""Frames: a 4-byte length of the body, big-endian, a byte that says what it is, the body.

Bytes in, frames out, no sockets. Whoever owns the connection owns its reader.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

Frame = tuple[int, bytes]
"""What it is (`Kind`, or a number that this version does not know), and the body."""

_HEAD: Final = struct.Struct(">IB")
HEAD_BYTES: Final = _HEAD.size


class Kind(IntEnum):
    """What a body is. The numbers are the protocol's: never used for anything else."""

    HELLO = 1
    HELLO_ANSWER = 2
    PING = 3
    PONG = 4
    SNAPSHOT_OFFER = 8
    SNAPSHOT_CHUNK = 9
    SNAPSHOT_PROGRESS = 10
    CALL_REQUEST = 12
    CALL_ANSWER = 13
    CLIENT_OFFER = 14
    CLIENT_ANSWER = 15
    PRE_VOTE_REQUEST = 32
    PRE_VOTE_RESPONSE = 33
    VOTE_REQUEST = 34
    VOTE_RESPONSE = 35
    APPEND_REQUEST = 36
    APPEND_RESPONSE = 37
    APPEND_REJECTED = 38
    HEARTBEAT = 39
    HEARTBEAT_RESPONSE = 40
    NEWER_TERM = 41
    TIMEOUT_NOW = 42
    FORWARD = 43
    FORWARD_REFUSED = 44
    READ_INDEX_REQUEST = 45
    READ_INDEX_RESPONSE = 46


class ProtocolError(Exception):
    """The other side does not keep to the protocol; one sentence."""


def head(kind: int, size: int) -> bytes:
    """What stands before a body of `size` bytes."""
    return _HEAD.pack(size, kind)


def frame(kind: int, body: bytes = b"") -> bytes:
    """A whole frame."""
    return _HEAD.pack(len(body), kind) + body


_Body = TypeVar("_Body", bound=Message)


def parsed(wire: type[_Body], kind: int, body: bytes, expected: Kind) -> _Body:
    """The body of a frame that must be of one kind. Raises `ProtocolError`."""
    if kind != expected:
        raise ProtocolError(f"a frame of kind {kind} came where {expected.name} belongs")
    message = wire()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise ProtocolError(f"a {expected.name} came that cannot be read") from None
    return message


class FrameReader:
    """Cuts a stream into frames. `body_bytes_max` may change at any time."""

    def __init__(self, body_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = HEAD_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises `ProtocolError` when one is too large."""
        if self._pieces:
            # Joined once, when all is there, so that a large frame costs no copy a piece.
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        frames: list[Frame] = []
        position, end = 0, len(data)
        while True:
            body = position + HEAD_BYTES
            self._need = HEAD_BYTES
            if body > end:
                break
            size, kind = _HEAD.unpack_from(data, position)
            if size > self.body_bytes_max:
                raise ProtocolError(
                    f"a frame of {size} bytes came, at most {self.body_bytes_max} are taken"
                )
            self._need = HEAD_BYTES + size
            if body + size > end:
                break
            position = body + size
            frames.append((kind, data[body:position]))
        if position < end:
            self._pieces = [data[position:] if position else data]
            self._have = end - position
        return frames
