"""What one client may cost us. Every limit is named here, with its reason; pure data and a meter.

Limits are far above what etcd's clients do, so that whoever meets one is broken or hostile.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvshim.transport.http2.wire import ConnectionFault, ErrorCode
from raft.transport.pace import Rate


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one connection, if not said otherwise."""

    streams_max: int = 10_000
    """Whatever etcd's flag says, whose default is no limit: a stream costs about 2 KiB and a task,
    and clients make further calls wait. As many calls that were reset may wait for their handlers
    to end (rapid reset)."""

    turn_bytes_max: int = 16 * 1024
    """Of what a client sent at once, read in one turn of the loop: a quarter of a megabyte can open
    15,000 streams, which would hold up everybody else for a second."""

    header_list_bytes_max: int = 64 * 1024
    """Decoded, with 32 bytes a field as HPACK counts. Tokens and metadata take 2 KiB at most."""

    header_block_bytes_max: int = 64 * 1024
    """Encoded, over all CONTINUATION frames: nothing is decoded before the last one."""

    continuations_max: int = 16
    """Frames of one header block: empty CONTINUATION frames would otherwise never end it."""

    buffered_bytes_max: int = 128 * 1024 * 1024
    """Of requests that have not arrived whole or wait to be read, in all streams together."""

    stream_window_bytes: int = 256 * 1024
    """How far a client may run ahead on a stream; most requests fit without a WINDOW_UPDATE."""

    connection_window_bytes: int = 1024 * 1024
    """The same for all streams together. Given back on arrival: no stream holds up another."""

    resets: Rate = Rate(burst=2_000, per_second=500.0)
    """Streams that end by RST_STREAM, from either side (rapid reset). A herd of clients' timeouts
    on a slow disk stays below."""

    settings: Rate = Rate(burst=100, per_second=10.0)
    """SETTINGS frames, each of which we must acknowledge. Clients send one or two."""

    pings: Rate = Rate(burst=1_000, per_second=100.0)
    """PING frames that follow nothing of ours, where the flag sets no distance between them."""

    idle_frames: Rate = Rate(burst=10_000, per_second=1_000.0)
    """Frames that move nothing: PRIORITY, unknown types, empty DATA, frames on closed streams."""

    ping_strikes_max: int = 2
    """Pings that may come too early before the connection ends with too_many_pings, as in
    grpc-go."""

    preface_seconds_max: float = 10.0
    """From the TCP connection to the client's first SETTINGS, without the TLS handshake."""

    handshake_seconds_max: float = 10.0
    """TLS handshake."""

    handshakes: Rate = Rate(burst=4, per_second=200.0)
    """TLS handshakes of the whole server. Each takes one or two milliseconds of the event loop, so
    few at once; later ones wait in the kernel. A kube-apiserver opens about a hundred connections
    at start."""

    stall_seconds_max: float = 300.0
    """A stream whose client opens no window for what waits to be sent is reset; what waits is
    memory, and clients watch again from where they were."""

    write_seconds_max: float = 60.0
    """TCP took nothing for so long: the client is stopped or gone, the connection is cut."""

    write_buffer_bytes: int = 256 * 1024
    """Bytes given to the socket but not taken yet, above which handlers wait and nothing more is
    read: what a client does not read it cannot ask for."""

    send_queue_bytes: int = 64 * 1024
    """Bytes of a stream that wait for its window, above which its handler waits."""

    connections_max: int = 10_000
    """Of the whole server; an idle connection costs about 10 KiB without TLS, 60 KiB with it."""

    server_streams_max: int = 50_000
    """Of all connections together. A kube-apiserver has some hundreds open."""

    server_bytes_max: int = 512 * 1024 * 1024
    """That all connections together hold: requests that have not arrived whole or wait to be read,
    and what waits for windows of streams."""


class Meter:
    """A token bucket: tells when something happens more often than its rate allows."""

    __slots__ = ("_last", "_rate", "_tokens")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._last = 0.0

    def exceeded(self, now: float) -> bool:
        """Count one at monotonic time `now`; True if it was too many."""
        rate = self._rate
        refill = (now - self._last) * rate.per_second
        self._tokens = min(rate.burst, self._tokens + refill) - 1
        self._last = now
        return self._tokens < 0


class FloodGuard:
    """Counts what a client may do only so often; ConnectionFault when it is too often."""

    def __init__(self, limits: Limits) -> None:
        self.now = 0.0
        """Monotonic time of the bytes that are being read."""
        self._resets = Meter(limits.resets)
        self._settings = Meter(limits.settings)
        self._idle_frames = Meter(limits.idle_frames)

    def reset(self) -> None:
        """A stream ends by RST_STREAM."""
        if self._resets.exceeded(self.now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_resets")

    def settings(self) -> None:
        """A SETTINGS frame came."""
        if self._settings.exceeded(self.now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_settings")

    def idle_frame(self) -> None:
        """A frame came that moves nothing."""
        if self._idle_frames.exceeded(self.now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without progress")
