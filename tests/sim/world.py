"""Simulated time: everything that will happen, in order, decided by one seed."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random


class World:
    """A queue of events. Times are in microseconds; nothing here reads a real clock."""

    def __init__(self, seed: int, *, traced: bool) -> None:
        self.random = Random(seed)
        self.now_us = 0
        self.steps = 0
        self.traced = traced
        self.trace: deque[str] = deque(maxlen=400)
        self.digest = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0

    def after(self, delay_us: float, action: Callable[[], None]) -> None:
        """Let something happen later; what is due at one time happens in the order asked."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_us + int(delay_us), self._sequence, action))

    def run_until(self, time_us: int) -> None:
        """Let everything happen that is due by then."""
        while self._queue and self._queue[0][0] <= time_us:
            self.now_us, _, action = heapq.heappop(self._queue)
            self.steps += 1
            action()
        self.now_us = time_us

    def between(self, low: float, high: float) -> float:
        """A number by chance."""
        return low + (high - low) * self.random.random()

    def chance(self, probability: float) -> bool:
        """True now and then."""
        return self.random.random() < probability

    def note(self, *numbers: int) -> None:
        """Mix numbers into the digest that tells whether two runs were the same."""
        self.digest = hash((self.digest, self.now_us, *numbers))

    def say(self, *words: object) -> None:
        """Remember a line of the trace."""
        self.trace.append(f"{self.now_us / 1e6:9.6f} " + " ".join(map(str, words)))
