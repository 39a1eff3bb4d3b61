"""Events that are delivered together, measured and joined once for all watchers that get them.

Immutable from outside. What it caches may be made on a reader thread or on the loop: two threads
doing so at once make the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from kvshim.types import EventKind, Revision
from kvshim.watch.seams import Event

RESPONSE_BYTES_TARGET = 1 << 20
"""A response ends after the revision that takes it over this size."""

EVENT_OVERHEAD_BYTES = 256
"""What an event in memory costs beyond its own size, so that tiny events are bounded too."""


class Body(NamedTuple):
    """The events of one response, end to end, and the revision of the last."""

    data: bytes
    revision: Revision
    sizes: Sequence[int]


class Batch:
    """At least one event, whole revisions, in order. `cost` is about its bytes in memory."""

    __slots__ = ("_plain", "_with_prev", "cost", "events")

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.cost = sum([event.size for event in events]) + EVENT_OVERHEAD_BYTES * len(events)
        self._plain: list[Body] | None = None
        self._with_prev: list[Body] | None = None

    def __len__(self) -> int:
        return len(self.events)

    @property
    def first_revision(self) -> Revision:
        return self.events[0].revision

    @property
    def last_revision(self) -> Revision:
        return self.events[-1].revision

    def cut(self, start: Revision, excluded: frozenset[EventKind]) -> Batch | None:
        """What is left for a watcher that starts at `start` and leaves out some kinds."""
        if start <= self.first_revision and not excluded:
            return self
        events = [e for e in self.events if e.revision >= start and e.kind not in excluded]
        return Batch(events) if events else None

    def bodies(self, *, with_prev: bool) -> list[Body]:
        """The batch as response bodies, split behind revisions."""
        if with_prev:
            if self._with_prev is None:
                self._with_prev = self._join(with_prev=True)
            return self._with_prev
        if self._plain is None:
            self._plain = self._join(with_prev=False)
        return self._plain

    def _join(self, *, with_prev: bool) -> list[Body]:
        encoded = [event.encoded(with_prev) for event in self.events]
        if len(encoded) == 1:
            return [Body(encoded[0], self.last_revision, (len(encoded[0]),))]
        bodies, start = [], 0
        for end in self._cuts(encoded):
            part = encoded[start:end]
            revision = self.events[end - 1].revision
            bodies.append(Body(b"".join(part), revision, [len(one) for one in part]))
            start = end
        return bodies

    def _cuts(self, encoded: Sequence[bytes]) -> list[int]:
        """Where responses end: at the first new revision once one is over the target."""
        cuts, sent = [], 0
        ends = list(accumulate(map(len, encoded)))
        if ends[-1] > RESPONSE_BYTES_TARGET:
            for at in range(1, len(encoded)):
                size = ends[at - 1] - sent
                new_revision = self.events[at].revision != self.events[at - 1].revision
                if size >= RESPONSE_BYTES_TARGET and new_revision:
                    cuts.append(at)
                    sent = ends[at - 1]
        return [*cuts, len(encoded)]
