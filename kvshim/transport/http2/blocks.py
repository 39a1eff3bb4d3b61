"""HEADERS and CONTINUATION frames to header blocks (RFC 9113, 4.3), within limits. No I/O."""

from __future__ import annotations

from kvshim.transport.http2.frames import header_fragment
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.wire import (
    END_HEADERS,
    END_STREAM,
    PADDED,
    PRIORITY_FLAG,
    ConnectionFault,
    ErrorCode,
    FrameType,
)


class HeaderBlock:
    """A block that is whole, or waits for its CONTINUATION frames.

    Each call makes one, and mypyc does not compile what makes a dataclass.
    """

    __slots__ = ("data", "ends_stream", "frames", "stream_id")

    def __init__(self, stream_id: int, ends_stream: bool, data: bytes) -> None:  # noqa: FBT001
        self.stream_id = stream_id
        self.ends_stream = ends_stream
        self.data = data
        self.frames = 1


class BlockReader:
    """Collects the frames of one block at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unfinished: HeaderBlock | None = None

    @property
    def is_inside(self) -> bool:
        """Whether nothing but the block's CONTINUATION may come."""
        return self._unfinished is not None

    def headers(self, flags: int, stream_id: int, payload: bytes) -> HeaderBlock | None:
        """The block if this frame is all of it."""
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a server's stream")
        if flags & (PADDED | PRIORITY_FLAG):
            payload = header_fragment(flags, stream_id, payload)
        block = HeaderBlock(stream_id, bool(flags & END_STREAM), payload)
        if flags & END_HEADERS:
            return block
        self._unfinished = block
        return None

    def inside(self, kind: int, flags: int, stream_id: int, payload: bytes) -> HeaderBlock | None:
        """The block if this CONTINUATION ends it; ConnectionFault for any other frame."""
        block = self._unfinished
        if block is None or kind != FrameType.CONTINUATION or stream_id != block.stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        block.data += payload
        block.frames += 1
        limits = self._limits
        if (
            block.frames > limits.continuations_max
            or len(block.data) > limits.header_block_bytes_max
        ):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if not flags & END_HEADERS:
            return None
        self._unfinished = None
        return block
