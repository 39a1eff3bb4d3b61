"""gRPC messages in the DATA of a stream: a byte of compression, four of length, the message.

Sizes are checked before memory is taken, also when unpacking gzip. No I/O.
"""

from __future__ import annotations

import zlib
from struct import Struct

from kvshim.errors import MalformedMessage, MessageTooLarge, UnknownEncoding

PREFIX = Struct(">BL")
IDENTITY = "identity"
GZIP = "gzip"
GZIP_WINDOW_BITS = 31
"""zlib's way to say: gzip format, the largest window."""


class MessageReader:
    """DATA in, messages out: those of one stream. Holds at most one unfinished message."""

    __slots__ = ("_body", "_encoding", "_need", "_prefix", "_size_max")

    def __init__(self, size_max: int, encoding: str) -> None:
        self._size_max = size_max
        self._encoding = encoding
        self._prefix = b""
        """The prefix of the message that `_body` belongs to; shorter while it arrives."""
        self._body = bytearray()
        self._need = 0
        """Bytes until the message is whole."""

    @property
    def held(self) -> int:
        """Bytes of the unfinished message that are here."""
        return len(self._prefix) + len(self._body)

    def read(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes; RequestError if one is refused."""
        if not self._prefix and len(data) >= PREFIX.size:
            flag, length = PREFIX.unpack_from(data)
            if length == len(data) - PREFIX.size:
                self._check(flag, length)
                body = data[PREFIX.size :]
                return [body if not flag else self._unpack(body)]
        return self._read_parts(data)

    def _read_parts(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        position, end = 0, len(data)
        while position < end or (len(self._prefix) == PREFIX.size and not self._need):
            missing = PREFIX.size - len(self._prefix)
            if missing:
                self._prefix += data[position : position + missing]
                position += missing
                if len(self._prefix) == PREFIX.size:
                    flag, self._need = PREFIX.unpack(self._prefix)
                    self._check(flag, self._need)
                continue
            part = data[position : position + self._need]
            position += len(part)
            self._need -= len(part)
            self._body += part
            if not self._need:
                messages.append(self._finish())
        return messages

    def _finish(self) -> bytes:
        flag, body = self._prefix[0], bytes(self._body)
        self._prefix, self._body = b"", bytearray()
        return self._unpack(body) if flag else body

    def _check(self, flag: int, length: int) -> None:
        if flag > 1:
            raise MalformedMessage(f"invalid message flag {flag}")
        if flag and self._encoding == IDENTITY:
            raise MalformedMessage("compressed flag set with identity or empty encoding")
        if flag and self._encoding != GZIP:
            raise UnknownEncoding(self._encoding)
        if length > self._size_max:
            raise MessageTooLarge(length, self._size_max)

    def _unpack(self, body: bytes) -> bytes:
        unpacker = zlib.decompressobj(GZIP_WINDOW_BITS)
        try:
            message = unpacker.decompress(body, self._size_max + 1)
        except zlib.error:
            raise MalformedMessage("not gzip") from None
        if len(message) > self._size_max:
            raise MessageTooLarge(len(message), self._size_max)
        if not unpacker.eof:
            raise MalformedMessage("gzip data ends early")
        return message


class BodyReader:
    """The body of a request that is no call: what arrives is passed on as it is."""

    __slots__ = ()
    held = 0

    def read(self, data: bytes) -> list[bytes]:
        return [data]
