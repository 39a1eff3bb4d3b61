"""Pieces of snapshots, compressed. Any thread.

Zstandard at its lowest level is faster than TLS and the disk. It is loaded when the first snapshot
moves: most nodes never send one.
"""

from __future__ import annotations

from typing import Final

_LEVEL: Final = 1


def packed(data: bytes) -> bytes | None:
    """A Zstandard frame that names its size; None if it is no smaller than the data."""
    from zstandard import ZstdCompressor

    frame = ZstdCompressor(level=_LEVEL).compress(data)
    return frame if len(frame) < len(data) else None


def unpacked(frame: bytes, bytes_max: int) -> bytes | None:
    """What a frame holds; None if it is none, or does not say that it holds at most so much."""
    from zstandard import ZstdDecompressor, ZstdError, get_frame_parameters

    try:
        if get_frame_parameters(frame).content_size > bytes_max:
            return None
        return ZstdDecompressor().decompress(frame)
    except ZstdError:
        return None
