"""The queue between a stream's watchers and its sender: ordered, and bounded in bytes.

Events are refused once the bound is passed, and their watcher goes back to catching up; a notice
(created, cancelled) is never refused, but the stream takes no further request while too many wait.
Belongs to the event loop; one consumer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from kvshim.types import Revision
from kvshim.watch.batch import Batch
from kvshim.watch.seams import Event
from kvshim.watch.watcher import NO_REVISION, Watcher

QUEUE_BYTES_MAX = 4 << 20
"""Above this a stream refuses events; the delivery that passes it is still taken."""

QUEUE_BYTES_RESUME = QUEUE_BYTES_MAX // 2
"""At this or below watchers that were refused are fed again."""

NOTICES_MAX = 64
"""Created and cancelled responses that may wait before the stream's requests do."""

PROGRESS_BYTES = 128
"""What a queued progress response counts."""

MERGED_BYTES_MAX = 1 << 20
"""Waiting deliveries of one watcher leave as one, up to about this size."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A response without events. All flags false is a progress response."""

    watch_id: int
    revision: Revision
    created: bool = False
    canceled: bool = False
    compact_revision: Revision = NO_REVISION
    cancel_reason: str = ""

    @property
    def is_progress(self) -> bool:
        return not self.created and not self.canceled


class Delivery:
    """Events for one watcher and the revision they bring it up to.

    Each watcher gets one for each batch, and mypyc does not compile what makes a dataclass.
    """

    __slots__ = ("batch", "revision", "watcher")

    def __init__(self, watcher: Watcher, batch: Batch, revision: Revision) -> None:
        self.watcher = watcher
        self.batch = batch
        self.revision = revision


Item: TypeAlias = Notice | Delivery


@dataclass(slots=True)
class EventCounts:
    """Of all streams together, for metrics: plain numbers, readable from any thread."""

    pending: int = 0
    """Queued, and not handed to a sender yet."""

    sent: int = 0


class Outbox:
    """First in, first out. `on_room` is called when refused watchers may try again."""

    __slots__ = (
        "_counts",
        "_items",
        "_notices",
        "_on_room",
        "_refused",
        "_room",
        "_wakeup",
        "bytes",
    )

    def __init__(self, on_room: Callable[[], None], counts: EventCounts) -> None:
        self._items: deque[Item] = deque()
        self._counts = counts
        self._notices = 0
        self._on_room = on_room
        self._refused = False
        self._wakeup: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.bytes = 0

    def offer(self, watcher: Watcher, batch: Batch, revision: Revision) -> bool:
        """Queue events, or refuse them all when the queue is full."""
        if self.bytes >= QUEUE_BYTES_MAX:
            self._refused = True
            return False
        self.bytes += batch.cost
        self._counts.pending += len(batch)
        self._put(Delivery(watcher, batch, revision))
        return True

    def notify(self, notice: Notice) -> None:
        """Queue a created or cancelled response, whatever waits already."""
        self._notices += 1
        if self._notices >= NOTICES_MAX:
            self._room.clear()
        self._put(notice)

    def progress(self, notice: Notice) -> None:
        """Queue a progress response; one of the same watcher that waits last is brought up to
        date instead, and a full queue drops it: the client will ask again."""
        if self._items:
            last = self._items[-1]
            if isinstance(last, Notice) and last.is_progress and last.watch_id == notice.watch_id:
                self._items[-1] = notice
                return
        if self.bytes < QUEUE_BYTES_MAX:
            self.bytes += PROGRESS_BYTES
            self._put(notice)

    async def room(self) -> None:
        """Wait until few enough notices are queued for the next request."""
        await self._room.wait()

    async def filled(self) -> None:
        """Wait until there is a next response."""
        if not self._items:
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup

    def next(self) -> Item | None:
        """The next response, waiting deliveries of the same watcher merged into it; None when
        nothing waits."""
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, Delivery):
            item = self._merge(item)
            self._counts.pending -= len(item.batch)
        return item

    def sent(self, item: Item) -> None:
        """Account for an item that has left, and let refused watchers try again."""
        if isinstance(item, Delivery):
            self.bytes -= item.batch.cost
            self._counts.sent += len(item.batch)
        elif item.is_progress:
            self.bytes -= PROGRESS_BYTES
        else:
            self._notices -= 1
            if self._notices < NOTICES_MAX:
                self._room.set()
        if self._refused and self.bytes <= QUEUE_BYTES_RESUME:
            self._refused = False
            self._on_room()

    def close(self) -> None:
        """Drop what is queued."""
        for item in self._items:
            if isinstance(item, Delivery):
                self._counts.pending -= len(item.batch)
        self._items.clear()

    def _put(self, item: Item) -> None:
        self._items.append(item)
        if self._wakeup is not None:
            if not self._wakeup.done():
                self._wakeup.set_result(None)
            self._wakeup = None

    def _merge(self, first: Delivery) -> Delivery:
        """A slow client gets fewer, larger responses instead of falling behind further."""
        last, cost = first, first.batch.cost
        merged: list[Event] = []
        while self._items and cost < MERGED_BYTES_MAX:
            following = self._items[0]
            if not isinstance(following, Delivery) or following.watcher is not first.watcher:
                break
            self._items.popleft()
            merged = merged or [*first.batch.events]
            merged += following.batch.events
            last, cost = following, cost + following.batch.cost
        return Delivery(first.watcher, Batch(merged), last.revision) if merged else first
