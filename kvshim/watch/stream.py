"""One client stream: its watchers by id, the answers to its requests, its progress timer.

Belongs to the event loop. `api/watch.py` drives it: `create`, `cancel` and `request_progress` on
requests; `outbox.next` and `sent` to write; `failure` ends it. The rules for ids, for what is
refused and for when progress is told are those of etcd 3.7.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kvshim import errors
from kvshim.types import Revision
from kvshim.watch.outbox import Delivery, Item, Notice, Outbox
from kvshim.watch.watcher import INVALID_WATCH_ID, NO_REVISION, Phase, Watcher, WatchSpec

if TYPE_CHECKING:
    from kvshim.watch.hub import Hub

WATCHERS_MAX = 100_000
"""Watchers on one stream."""

KEY_BYTES_MAX = 64 << 20
"""Bytes of keys and range ends that the watchers of one stream may hold."""

_EMPTY_RANGE = "mvcc: watcher range is empty"
_DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"


class WatchStream:
    """Made by `Hub.open_stream`; `close` it when the client is gone."""

    def __init__(self, hub: Hub, peer: str, progress_interval: float) -> None:
        self._hub = hub
        self.peer = peer
        self._loop = asyncio.get_running_loop()
        self._watchers: dict[int, Watcher] = {}
        self._notified: dict[int, Watcher] = {}  # those that asked for periodic progress
        self._parked: dict[Watcher, None] = {}
        self._next_id = 0
        self._key_bytes = 0
        self._interval = progress_interval
        self._timer = self._loop.call_later(progress_interval, self._tick)
        self.outbox = Outbox(self._unpark, hub.event_counts)
        self.failure: asyncio.Future[None] = self._loop.create_future()
        """Never succeeds; its exception is the reason why the stream ends."""

    def create(self, spec: WatchSpec) -> None:
        """Start a watcher, or answer why not with id -1, created and canceled at once."""
        present = self._hub.present_revision
        if (reason := self._refusal(spec)) is not None:
            self.refuse(reason)
            return
        watch_id = spec.watch_id or self._free_id()
        watcher = Watcher(watch_id, spec, self, spec.start_revision)
        self._watchers[watch_id] = watcher
        self._key_bytes += _key_bytes(spec)
        if spec.progress_notify:
            self._notified[watch_id] = watcher
        self.outbox.notify(Notice(watch_id, present, created=True))
        self._hub.attach(watcher, present)

    def refuse(self, reason: str) -> None:
        """Answer a request to create a watcher with why there is none."""
        present = self._hub.present_revision
        self.outbox.notify(
            Notice(INVALID_WATCH_ID, present, created=True, canceled=True, cancel_reason=reason)
        )

    def cancel(self, watch_id: int) -> None:
        """End a watcher, even one that compaction has cancelled; an unknown id is no matter."""
        watcher = self._watchers.pop(watch_id, None)
        if watcher is None:
            return
        self._notified.pop(watch_id, None)
        self._key_bytes -= _key_bytes(watcher.spec)
        self._detach(watcher)
        self.outbox.notify(Notice(watch_id, self._hub.present_revision, canceled=True))

    def request_progress(self) -> None:
        """Tell how far all watchers are, or stay silent when one of them is behind, starts in
        the future or was cancelled by compaction, or when there is none.

        A watcher that has read events from the store which are not published yet must not be told
        an older revision afterwards: then the answer waits for the hub, a moment.
        """
        revision = self._hub.revision
        watchers = self._watchers.values()
        if not watchers or not all(_is_told(watcher, revision) for watcher in watchers):
            return
        if any(watcher.next_revision > revision + 1 for watcher in watchers):
            self._hub.defer_progress(self)
        else:
            self.outbox.progress(Notice(INVALID_WATCH_ID, revision))

    def sent(self, item: Item) -> None:
        """Account for a response that has been written."""
        if isinstance(item, Delivery):
            item.watcher.progress_due = False
        self.outbox.sent(item)

    def compacted(self, watcher: Watcher, compact_revision: Revision) -> None:
        """End a watcher whose next events are gone. Its id stays taken until it is cancelled,
        and the header has revision 0, both as in etcd."""
        self._detach(watcher)
        self.outbox.notify(
            Notice(watcher.id, NO_REVISION, canceled=True, compact_revision=compact_revision)
        )

    def park(self, watcher: Watcher) -> None:
        """Keep a watcher that this stream has no room for; it is fed again when there is."""
        self._parked[watcher] = None

    def fail(self, reason: BaseException) -> None:
        """End the stream with an error."""
        if not self.failure.done():
            self.failure.set_exception(reason)

    def close(self) -> None:
        """Forget everything."""
        self._timer.cancel()
        if not self.failure.cancel() and not self.failure.cancelled():
            self.failure.exception()  # seen, even if the client went first
        for watcher in self._watchers.values():
            self._detach(watcher)
        self._watchers.clear()
        self._notified.clear()
        self.outbox.close()
        self._hub.forget(self)

    def _refusal(self, spec: WatchSpec) -> str | None:
        if spec.start_revision < 0:
            return errors.Compacted.text
        if spec.keys.is_empty:
            return _EMPTY_RANGE
        if spec.watch_id in self._watchers and spec.watch_id != 0:
            return _DUPLICATE_ID
        if len(self._watchers) >= WATCHERS_MAX:
            return errors.TooManyRequests.text
        if self._key_bytes + _key_bytes(spec) > KEY_BYTES_MAX:
            return errors.TooManyRequests.text
        return None

    def _free_id(self) -> int:
        while self._next_id in self._watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _detach(self, watcher: Watcher) -> None:
        self._parked.pop(watcher, None)
        self._hub.detach(watcher)

    def _unpark(self) -> None:
        parked, self._parked = self._parked, {}
        self._hub.resume(parked)

    def _tick(self) -> None:
        """Periodic progress, for each watcher that had no event since the last time."""
        revision = self._hub.revision
        for watcher in self._notified.values():
            is_ahead = watcher.next_revision > revision + 1
            if watcher.progress_due and not is_ahead and _is_told(watcher, revision):
                self.outbox.progress(Notice(watcher.id, revision))
            watcher.progress_due = True
        self._timer = self._loop.call_later(self._interval, self._tick)


def _is_told(watcher: Watcher, revision: Revision) -> bool:
    """True when everything up to `revision` is delivered or queued for this watcher."""
    return watcher.phase is Phase.SYNCED and watcher.spec.start_revision <= revision


def _key_bytes(spec: WatchSpec) -> int:
    return len(spec.keys.start) + len(spec.keys.end or b"")
