"""How often somebody may be wrong: counts within a window, for a bounded number of names.

Event loop. When more names come than are remembered, the oldest is forgotten: an attacker with
that many addresses has as many tries anyway, and a token's own limit still holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class WrongTries:
    """Counts wrong tries by name; a name that had too many is to be refused unheard."""

    def __init__(
        self, tries_max: int, window_seconds: float, names_max: int, clock: Callable[[], float]
    ) -> None:
        """`clock` is monotonic, in seconds."""
        self._tries_max = tries_max
        self._window_seconds = window_seconds
        self._names_max = names_max
        self._clock = clock
        self._counts: OrderedDict[object, tuple[float, int]] = OrderedDict()

    def exhausted(self, name: object) -> bool:
        """Has the name no try left for now?"""
        began, count = self._counts.get(name, (0.0, 0))
        return count >= self._tries_max and self._clock() < began + self._window_seconds

    def count(self, name: object) -> None:
        """One wrong try more."""
        began, count = self._counts.get(name, (self._clock(), 0))
        if self._clock() >= began + self._window_seconds:
            began, count = self._clock(), 0
        self._counts[name] = (began, count + 1)
        if len(self._counts) > self._names_max:
            self._counts.popitem(last=False)
