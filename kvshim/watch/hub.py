"""The event hub: takes committed events in revision order and feeds every watcher exactly once.

Belongs to the event loop. A watcher is SYNCED (fed by `publish`), CATCHING_UP (fed from the newest
events in memory or, when those do not reach back far enough, by reads of the history) or CANCELLED.
It becomes synced in one step of the loop, when nothing at or below the hub's revision is missing.

The store may be ahead of the hub by a batch whose `publish` is still queued on the loop, so a read
of history may return events that are published later: the hub skips what lies below a watcher's
`next_revision`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor

from kvshim import errors
from kvshim.logs import Event as LogEvent
from kvshim.logs import Logger
from kvshim.types import Revision
from kvshim.watch.batch import Batch
from kvshim.watch.catchup import CatchUp, Slice
from kvshim.watch.index import Group, KeyIndex
from kvshim.watch.outbox import EventCounts
from kvshim.watch.recent import RecentEvents
from kvshim.watch.seams import Event, HistoryStore
from kvshim.watch.stream import WatchStream
from kvshim.watch.watcher import NO_REVISION, Phase, Watcher

PROGRESS_INTERVAL_DEFAULT = 600.0
PROGRESS_INTERVAL_MIN = 0.1

TURN_SECONDS_MAX = 0.002
TURN_BYTES_MAX = 4 << 20
"""What one turn of the loop may spend on watchers that catch up, so that a thousand that do so at
once neither stall it themselves nor by what their streams then have to send."""

BEHIND_LOG_SECONDS_MIN = 10.0
"""At most one line in this time tells of watchers that fell behind."""


class Hub:
    """Feeds watchers. The counters are read by metrics."""

    def __init__(
        self, store: HistoryStore, readers: Executor, progress_interval: float, logger: Logger
    ) -> None:
        self._store = store
        self._logger = logger
        self._interval = PROGRESS_INTERVAL_DEFAULT
        if progress_interval > 0:
            self._interval = max(progress_interval, PROGRESS_INTERVAL_MIN)
        self._revision = store.revision
        self._recent = RecentEvents(self._revision)
        self._synced: KeyIndex[Watcher] = KeyIndex()
        self._catch_up = CatchUp(store, readers, self._feed, self._read_failed)
        self._steps: deque[tuple[Watcher, Slice | None]] = deque()
        self._turn_is_due = False
        self._streams: set[WatchStream] = set()
        self._awaiting_progress: set[WatchStream] = set()
        self._closed = False
        self._told_behind_at = -math.inf
        self.slow_watcher_count = 0
        self.event_counts = EventCounts()

    @property
    def revision(self) -> Revision:
        """Every event up to here has been handed to every synced watcher's stream."""
        return self._revision

    @property
    def present_revision(self) -> Revision:
        """The newest revision that any client can have seen."""
        return max(self._revision, self._store.revision)

    @property
    def watcher_count(self) -> int:
        return len(self._synced) + self.slow_watcher_count

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    @property
    def pending_events(self) -> int:
        return self.event_counts.pending

    @property
    def events_total(self) -> int:
        return self.event_counts.sent

    def publish(self, revision: Revision, events: Sequence[Event]) -> None:
        """Hand out the events of a committed batch, in revision order; `revision` is the
        store's after it."""
        before = self._revision
        if revision < before or (
            events and not before < events[0].revision <= events[-1].revision <= revision
        ):
            raise errors.KvshimError(
                f"events up to revision {revision} were published after revision {before}"
            )
        self._revision = revision
        self._recent.append(events)
        for group, share in self._shares(events):
            for watcher in list(group):
                if (batch := share.cut(watcher.next_revision, watcher.excluded)) is None:
                    continue
                if not watcher.stream.outbox.offer(watcher, batch, batch.last_revision):
                    self._fall_back(watcher, Revision(before + 1))
                    watcher.stream.park(watcher)
                    self._tell_behind(watcher)
        if self._awaiting_progress:
            awaiting, self._awaiting_progress = self._awaiting_progress, set()
            for stream in awaiting:
                stream.request_progress()

    def restored(self, revision: Revision) -> None:
        """A snapshot of this revision took the store's place: synced watchers read on from where
        they are. The store may be ahead of it, by batches whose `publish` is still to come."""
        if revision < self._revision:  # the old store was wrong, and told of what never happened
            for stream in list(self._streams):
                stream.fail(errors.CorruptCluster())
        for watcher in list(self._synced):
            self._fall_back(watcher, Revision(self._revision + 1))
            self._steps.append((watcher, None))
        self._revision = revision
        self._recent.reset(self._revision)
        self._take_turn()

    def open_stream(self, peer: str) -> WatchStream:
        """A new stream of the client at `peer`. Its progress interval has up to a tenth more, so
        that clients that came together are not told together."""
        if self._closed:
            raise errors.Stopped
        stream = WatchStream(self, peer, self._interval * (1 + random.random() / 10))
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """End every stream: the server stops."""
        self._closed = True
        self._catch_up.close()
        for stream in self._streams:
            stream.fail(errors.Stopped())

    # What follows is for streams.

    def attach(self, watcher: Watcher, present: Revision) -> None:
        """Take a new watcher in; `present` is the revision its client was told."""
        if watcher.spec.start_revision == NO_REVISION:
            watcher.next_revision = Revision(present + 1)
        self.slow_watcher_count += 1
        if watcher.next_revision > self._revision:
            self._sync(watcher)
        else:
            self._steps.append((watcher, None))
            self._take_turn()

    def detach(self, watcher: Watcher) -> None:
        """Feed a watcher no more."""
        match watcher.phase:
            case Phase.SYNCED:
                self._synced.remove(watcher.keys, watcher)
            case Phase.CATCHING_UP:
                self.slow_watcher_count -= 1
                self._catch_up.discard(watcher)
            case Phase.CANCELLED:
                pass
        watcher.phase = Phase.CANCELLED

    def resume(self, watchers: Iterable[Watcher]) -> None:
        """Go on feeding watchers whose stream has room again."""
        self._steps.extend((watcher, None) for watcher in watchers)
        self._take_turn()

    def forget(self, stream: WatchStream) -> None:
        self._streams.discard(stream)
        self._awaiting_progress.discard(stream)

    def defer_progress(self, stream: WatchStream) -> None:
        """Ask a stream for its progress again after the next publish."""
        self._awaiting_progress.add(stream)

    def _shares(self, events: Sequence[Event]) -> list[tuple[Group[Watcher], Batch]]:
        """The events that each range is told, with those who watch it."""
        found: dict[int, tuple[Group[Watcher], list[Event]]] = {}
        groups_of = self._synced.groups
        for event in events:
            for group in groups_of(event.key):
                if (share := found.get(id(group))) is None:
                    found[id(group)] = group, [event]
                else:
                    share[1].append(event)
        return [(group, Batch(share)) for group, share in found.values()]

    def _fall_back(self, watcher: Watcher, undelivered: Revision) -> None:
        """SYNCED -> CATCHING_UP; everything below `undelivered` was delivered."""
        self._synced.remove(watcher.keys, watcher)
        watcher.phase = Phase.CATCHING_UP
        watcher.next_revision = max(watcher.next_revision, undelivered)
        self.slow_watcher_count += 1

    def _tell_behind(self, watcher: Watcher) -> None:
        """One line for what is often thousands of watchers behind one slow client."""
        now = time.monotonic()
        if now - self._told_behind_at >= BEHIND_LOG_SECONDS_MIN:
            self._told_behind_at = now
            self._logger.warn(
                LogEvent.WATCHER_BEHIND,
                client=watcher.stream.peer,
                watch_id=watcher.id,
                revision=watcher.next_revision,
                slow_watchers=self.slow_watcher_count,
            )

    def _take_turn(self) -> None:
        """Go on with watchers that catch up for a moment, the rest in later turns of the loop."""
        deadline = time.perf_counter() + TURN_SECONDS_MAX
        room = TURN_BYTES_MAX
        while self._steps:
            watcher, piece = self._steps.popleft()
            if watcher.phase is not Phase.CATCHING_UP:
                continue
            room -= self._resume(watcher) if piece is None else self._deliver(watcher, piece)
            if room <= 0 or time.perf_counter() >= deadline:
                break
        if not self._steps:
            self._catch_up.read_more()
        elif not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_is_due = False
        self._take_turn()

    def _resume(self, watcher: Watcher) -> int:
        """The next step of a watcher that catches up: synced, fed from memory, or a read.

        Returns the bytes it was given.
        """
        start = watcher.next_revision
        if start > self._revision:
            self._sync(watcher)
        elif start > self._store.compact_revision and self._recent.covers(start):
            # At the compact revision itself history decides: what it leaves out of prev_kv there
            # must not depend on what happens to be in memory.
            return self._feed_from_memory(watcher)
        else:
            self._catch_up.add(watcher)
        return 0

    def _feed_from_memory(self, watcher: Watcher) -> int:
        batch = self._recent.since(watcher.keys, watcher.next_revision)
        if batch is not None:
            batch = batch.cut(watcher.next_revision, watcher.excluded)
        if batch is not None and not watcher.stream.outbox.offer(watcher, batch, self._revision):
            watcher.stream.park(watcher)
            return 0
        watcher.next_revision = Revision(self._revision + 1)
        self._sync(watcher)
        return 0 if batch is None else batch.cost

    def _sync(self, watcher: Watcher) -> None:
        watcher.phase = Phase.SYNCED
        self._synced.add(watcher.keys, watcher)
        self.slow_watcher_count -= 1

    def _feed(self, piece: Slice, group: Sequence[Watcher]) -> None:
        """Take a slice that was read for a group."""
        for watcher in piece.compacted:
            if watcher.phase is Phase.CATCHING_UP:
                watcher.stream.compacted(watcher, piece.compact_revision)
        self._steps.extend((watcher, piece) for watcher in group)
        self._take_turn()

    def _deliver(self, watcher: Watcher, piece: Slice) -> int:
        """Give a watcher its part of a slice and decide how it goes on."""
        batch = piece.batches.get(watcher)
        if batch is not None and not watcher.stream.outbox.offer(watcher, batch, piece.revision):
            watcher.stream.park(watcher)
            return 0
        watcher.next_revision = max(watcher.next_revision, piece.next_revision)
        return self._resume(watcher) + (0 if batch is None else batch.cost)

    def _read_failed(self, failure: BaseException, group: Sequence[Watcher]) -> None:
        self._logger.error("watch history read failed", error=str(failure), watchers=len(group))
        for watcher in group:
            if watcher.phase is Phase.CATCHING_UP:
                watcher.stream.fail(failure)
        self._take_turn()
