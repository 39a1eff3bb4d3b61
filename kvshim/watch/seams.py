"""What the watch room asks of its neighbours: a store with history, and events.

Only shapes: the rooms below fill them in, so the hub can be tested on any store that keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from kvshim.types import EventKind, KeyRange, Revision


class Event(Protocol):
    """One change of one key, immutable, encoded once for all watchers."""

    @property
    def kind(self) -> EventKind: ...

    @property
    def revision(self) -> Revision: ...

    @property
    def key(self) -> bytes: ...

    @property
    def size(self) -> int:
        """About the bytes that the event holds in memory."""

    def encoded(self, with_prev: bool, /) -> bytes:  # noqa: FBT001 - the shape of the events room
        """The event framed as field 11 of `WatchResponse`."""


class HistoryView(Protocol):
    """One snapshot of the store."""

    @property
    def revision(self) -> Revision: ...

    @property
    def compact_revision(self) -> Revision: ...

    def history(
        self, keys: KeyRange, start: Revision, end: Revision, max_bytes: int, /
    ) -> tuple[Sequence[Event], Revision]:
        """Events of whole revisions from `start` to `end` inclusive, in order, until `max_bytes`.

        The second value is the revision to go on from, `end + 1` when nothing is left.
        """


class HistoryStore(Protocol):
    """The store: committed revisions, readable on any thread, and snapshots."""

    @property
    def revision(self) -> Revision: ...

    @property
    def compact_revision(self) -> Revision: ...

    def read(self) -> AbstractContextManager[HistoryView]: ...
