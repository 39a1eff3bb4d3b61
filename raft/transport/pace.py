"""Turns at a limited rate, for what costs the event loop a millisecond or two: TLS handshakes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, `per_second` in the long run."""

    burst: int
    per_second: float


class Pace:
    """Turns of all listeners of one server. Event loop only."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._turns = float(rate.burst)
        self._last = 0.0

    async def turn(self) -> None:
        """Take the next turn, when it is due."""
        self._refill()
        while self._turns < 1:
            await asyncio.sleep((1 - self._turns) / self._rate.per_second)
            self._refill()
        self._turns -= 1

    def _refill(self) -> None:
        now = asyncio.get_running_loop().time()
        more = (now - self._last) * self._rate.per_second
        self._turns = min(self._rate.burst, self._turns + more)
        self._last = now
