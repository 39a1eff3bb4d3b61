"""Feeds watchers from history: which watchers share a read, and the read itself.

`CatchUp` belongs to the event loop and runs at most `READS_MAX` reads at once on reader threads,
so lists are not starved; `read_slice` runs on such a thread, on one snapshot, and ends after about
`SLICE_BYTES`. What becomes of a slice is the hub's business.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeAlias

from kvshim.types import EventKind, KeyRange, Revision
from kvshim.watch.batch import Batch
from kvshim.watch.index import Group, KeyIndex
from kvshim.watch.seams import Event, HistoryStore
from kvshim.watch.watcher import Watcher

SLICE_BYTES = 1 << 20
READS_MAX = 2

GROUP_WATCHERS_MAX = 512
"""Watchers that one read may serve, as many as etcd syncs at once."""

GROUP_SPREAD_REVISIONS = 1000
"""Watchers share a read only when they start this close: a near one never waits for a far one."""

MIXED_GROUP_MIN = 16
"""From this many on, watchers of different keys share one read of all keys between them: reading
what nobody asked for then costs less than scanning the same revisions once for each."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one read found: events per watcher, complete up to, not including, `next_revision`."""

    revision: Revision
    compact_revision: Revision
    next_revision: Revision
    batches: dict[Watcher, Batch]
    compacted: list[Watcher]


Variant: TypeAlias = tuple[Revision, frozenset[EventKind]]
"""Start and excluded kinds: watchers of one range that agree in them get the same events."""


@dataclass(frozen=True, slots=True)
class Want:
    """A watcher and where it starts, fixed when its read was asked for."""

    watcher: Watcher
    start: Revision


class CatchUp:
    """The watchers that wait for a slice, first come first served."""

    def __init__(
        self,
        store: HistoryStore,
        readers: Executor,
        on_slice: Callable[[Slice, Sequence[Watcher]], None],
        on_failure: Callable[[BaseException, Sequence[Watcher]], None],
    ) -> None:
        self._store = store
        self._readers = readers
        self._on_slice = on_slice
        self._on_failure = on_failure
        self._waiting: OrderedDict[Watcher, None] = OrderedDict()
        self._reads: set[asyncio.Future[Slice]] = set()
        self._closed = False

    def add(self, watcher: Watcher) -> None:
        """Queue a watcher for a read from its next revision; `read_more` starts it."""
        self._waiting[watcher] = None

    def discard(self, watcher: Watcher) -> None:
        """Forget a watcher; a read under way for it is the hub's to ignore."""
        self._waiting.pop(watcher, None)

    def close(self) -> None:
        """Start no more reads and report none."""
        self._closed = True
        self._waiting.clear()

    def read_more(self) -> None:
        """Start reads, as many as may run. The hub calls this when it has handed out what came
        before, so slices never pile up."""
        while self._waiting and len(self._reads) < READS_MAX and not self._closed:
            group = self._choose()
            for watcher in group:
                del self._waiting[watcher]
            wants = [Want(watcher, watcher.next_revision) for watcher in group]
            read = asyncio.get_running_loop().run_in_executor(
                self._readers, read_slice, self._store, wants
            )
            self._reads.add(read)
            read.add_done_callback(partial(self._done, group))

    def _choose(self) -> list[Watcher]:
        """The first watcher and those that wait for about the same revisions."""
        near = list(islice(self._waiting, 1))
        first = near[0]
        for watcher in islice(self._waiting, 1, GROUP_WATCHERS_MAX):
            if abs(watcher.next_revision - first.next_revision) <= GROUP_SPREAD_REVISIONS:
                near.append(watcher)
        if len(near) >= MIXED_GROUP_MIN:
            return near
        return [watcher for watcher in near if watcher.keys == first.keys]

    def _done(self, group: Sequence[Watcher], read: asyncio.Future[Slice]) -> None:
        self._reads.discard(read)
        if self._closed or read.cancelled():
            return
        if (failure := read.exception()) is not None:
            self._on_failure(failure, group)
        else:
            self._on_slice(read.result(), group)


def read_slice(store: HistoryStore, wants: Sequence[Want]) -> Slice:
    """Read the next events of a group on a reader thread, from one snapshot."""
    with store.read() as view:
        head, compacted_at = view.revision, view.compact_revision
        compacted = [want.watcher for want in wants if want.start < compacted_at]
        live = [want for want in wants if want.start >= compacted_at]
        if not live:
            return Slice(head, compacted_at, Revision(head + 1), {}, compacted)
        start = min(want.start for want in live)
        if start > head:
            return Slice(head, compacted_at, start, {}, compacted)
        events, following = view.history(_cover(live), start, head, SLICE_BYTES)
    return Slice(head, compacted_at, following, _distribute(events, live), compacted)


def _cover(wants: Sequence[Want]) -> KeyRange:
    """The smallest range that holds all of theirs."""
    ranges = [want.watcher.keys for want in wants]
    start = min(keys.start for keys in ranges)
    ends = [keys.end for keys in ranges]
    bounded = [end for end in ends if end is not None]
    return KeyRange(start, max(bounded) if len(bounded) == len(ends) else None)


def _distribute(events: Sequence[Event], wants: Sequence[Want]) -> dict[Watcher, Batch]:
    """Each watcher's own events, joined here so that the loop need not; watchers that want the
    same share them."""
    index: KeyIndex[Want] = KeyIndex()
    for want in wants:
        index.add(want.watcher.keys, want)
    found: dict[int, tuple[Group[Want], list[Event]]] = {}
    for event in events:
        for group in index.groups(event.key):
            found.setdefault(id(group), (group, []))[1].append(event)
    shares: dict[Watcher, Batch] = {}
    for group, matching in found.values():
        whole = Batch(matching)
        variants: dict[Variant, Batch | None] = {}
        for want in group:
            watcher = want.watcher
            variant = max(want.start, whole.first_revision), watcher.excluded
            if variant not in variants:
                variants[variant] = whole.cut(*variant)
            if (batch := variants[variant]) is not None:
                batch.bodies(with_prev=watcher.spec.prev_kv)
                shares[watcher] = batch
    return shares
