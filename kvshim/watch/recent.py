"""The newest events, kept in memory up to a bound, owned by the event loop.

Most watchers start a moment behind the head (a list, then a watch from its revision + 1), and a
watcher that catches up under a steady load is always one batch behind what it has just read.
Both get the rest from here on the loop in one step, without another read of the history.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from kvshim.types import KeyRange, Revision
from kvshim.watch.batch import Batch
from kvshim.watch.seams import Event

RECENT_EVENTS_MAX = 4096
RECENT_BYTES_MAX = 8 << 20
ANSWERS_MAX = 4


class RecentEvents:
    """Every event above revision `floor`, in order."""

    __slots__ = ("_answers", "_bytes", "_events", "floor")

    def __init__(self, revision: Revision) -> None:
        self.floor = revision
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._answers: dict[tuple[KeyRange, Revision], Batch | None] = {}

    def reset(self, revision: Revision) -> None:
        """Forget all; what follows is above `revision`."""
        self.floor = revision
        self._events.clear()
        self._answers.clear()
        self._bytes = 0

    def append(self, events: Sequence[Event]) -> None:
        """Add the events of whole revisions and drop the oldest revisions over the bound."""
        self._answers.clear()
        self._events.extend(events)
        self._bytes += sum(event.size for event in events)
        kept = self._events
        while kept and (len(kept) > RECENT_EVENTS_MAX or self._bytes > RECENT_BYTES_MAX):
            self.floor = kept[0].revision
            while kept and kept[0].revision == self.floor:
                self._bytes -= kept.popleft().size

    def covers(self, revision: Revision) -> bool:
        """True when no event at or above `revision` is missing here."""
        return revision > self.floor

    def since(self, keys: KeyRange, revision: Revision) -> Batch | None:
        """The events of `keys` at or above a covered revision, if there are any.

        Clients that reconnect together ask for the same, so answers are kept until the next append.
        """
        wanted = (keys, revision)
        if wanted not in self._answers:
            if len(self._answers) >= ANSWERS_MAX:
                self._answers.clear()
            events = self._since(keys, revision)
            self._answers[wanted] = Batch(events) if events else None
        return self._answers[wanted]

    def _since(self, keys: KeyRange, revision: Revision) -> list[Event]:
        events = self._events
        skipped = bisect_left(events, revision, key=_revision_of)
        wanted = _test_for(keys)
        return [event for event in islice(events, skipped, None) if wanted(event.key)]


def _revision_of(event: Event) -> Revision:
    return event.revision


def _test_for(keys: KeyRange) -> Callable[[bytes], bool]:
    """`keys.contains` with its decisions taken once."""
    start, end = keys
    if keys.is_single:
        return start.__eq__
    if end is None:
        return start.__le__
    return lambda key: start <= key < end
