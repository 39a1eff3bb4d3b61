"""Which pings of a client are too many: etcd's and grpc-go's rule. No I/O.

A ping that follows headers or data of ours measures the path and is free: grpc-go sends one after
every message of a watch that comes alone. Others must keep the distance that the flag sets, and
three that do not end the connection; so does a flood of them where the flag sets none. Unlike
etcd we also let clients without a call ping at that pace, as they do between two calls.
"""

from __future__ import annotations

from kvshim.transport.http2.limits import Limits, Meter
from kvshim.transport.http2.wire import ConnectionFault, ErrorCode


class PingPolicy:
    """The pings of one connection."""

    def __init__(self, limits: Limits, between_seconds: float) -> None:
        self._between_seconds = between_seconds
        self._strikes_max = limits.ping_strikes_max
        self._meter = Meter(limits.pings)
        self._strikes = 0
        self._last = float("-inf")

    def received(self, now: float, *, has_sent: bool) -> None:
        """Count one ping; ConnectionFault if it is one too many."""
        since = now - self._last
        self._last = now
        if has_sent:
            self._strikes = 0
            return
        if since < self._between_seconds:
            self._strikes += 1
        if self._strikes > self._strikes_max or self._meter.exceeded(now):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
