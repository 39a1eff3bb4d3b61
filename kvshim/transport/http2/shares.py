"""What all connections of one server hold together, and who goes when that is too much. Event loop.

Limits of one connection say little about thousands of them. When the server's are reached, the one
that holds most is ended: a client that leaks streams does not keep others from opening any.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final

from kvshim.transport.http2.limits import Limits

TOO_MANY_STREAMS: Final = "the server has too many streams open, and most of them here"
TOO_MANY_BYTES: Final = "the server holds too many bytes, and most of them here"


class Share:
    """One connection's."""

    def __init__(self) -> None:
        self.streams = 0
        self.bytes = 0


class Shares:
    """The shares of all connections that have not ended."""

    def __init__(self, limits: Limits) -> None:
        self._streams_max = limits.server_streams_max
        self._bytes_max = limits.server_bytes_max
        self._all: dict[Share, Callable[[str], None]] = {}
        self.streams = 0
        self.bytes = 0

    def take(self, shed: Callable[[str], None]) -> Share:
        """For a connection that begins; `shed` ends it for a reason."""
        share = Share()
        self._all[share] = shed
        return share

    def resize(self, share: Share, streams: int, size: int) -> None:
        """Its connection holds so many streams and bytes now; the largest may be shed for it."""
        self.streams += streams - share.streams
        self.bytes += size - share.bytes
        share.streams, share.bytes = streams, size
        if self.streams > self._streams_max:
            self._shed(max(self._all, key=attrgetter("streams")), TOO_MANY_STREAMS)
        elif self.bytes > self._bytes_max:
            self._shed(max(self._all, key=attrgetter("bytes")), TOO_MANY_BYTES)

    def give_back(self, share: Share) -> None:
        """The connection ends; more than once does nothing."""
        self.streams -= share.streams
        self.bytes -= share.bytes
        share.streams = share.bytes = 0
        self._all.pop(share, None)

    def _shed(self, largest: Share, reason: str) -> None:
        shed = self._all[largest]
        self.give_back(largest)
        shed(reason)
