"""A watcher: one client's interest in one key range, and how far it has been fed.

    create ──> CATCHING_UP ──────> SYNCED ──> CANCELLED
                 │   ^  └─────────────│───────────^
                 │   └────────────────┘
                 └ parked while its stream's outbox is full

All fields belong to the event loop. A reader thread may read those that never change: `keys`,
`excluded` and `prev_kv`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from kvshim.types import EventKind, KeyRange, Revision

if TYPE_CHECKING:
    from kvshim.watch.stream import WatchStream

INVALID_WATCH_ID = -1
"""The id in a response that speaks of no watcher or of all watchers of its stream."""

NO_REVISION = Revision(0)


class Phase(Enum):
    """Where a watcher gets its events from."""

    CATCHING_UP = auto()  # from history, in slices
    SYNCED = auto()  # from the hub, as they happen
    CANCELLED = auto()  # from nowhere: cancelled by the client, by compaction or by the stream


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """What a client asks for; `watch_id` 0 lets the server choose, revision 0 means from now."""

    keys: KeyRange
    start_revision: Revision = NO_REVISION
    watch_id: int = 0
    excluded: frozenset[EventKind] = frozenset()
    prev_kv: bool = False
    fragment: bool = False
    progress_notify: bool = False


@dataclass(slots=True, eq=False)
class Watcher:
    """`next_revision` is the lowest revision not delivered yet; while SYNCED it may lag behind
    the hub, whose revision then counts. `progress_due` is false after an interval with events."""

    id: int
    spec: WatchSpec
    stream: WatchStream
    next_revision: Revision
    phase: Phase = Phase.CATCHING_UP
    progress_due: bool = field(default=True)
    keys: KeyRange = field(init=False)
    excluded: frozenset[EventKind] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = self.spec.keys
        self.excluded = self.spec.excluded
