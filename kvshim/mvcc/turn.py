"""One snapshot for all short reads of one turn of the event loop.

Beginning and ending a transaction costs as much as reading a key, and a busy loop reads many keys a
turn. A read shares the snapshot that an earlier one of its turn opened only while the store has
committed nothing since, so it sees what a snapshot of its own would. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Final, TypeVar

from kvshim.errors import StorageError
from kvshim.mvcc.store import ShortSnapshot, Store
from kvshim.mvcc.view import ReadView

TURN_SECONDS_MAX: Final = 0.005
"""How long the reads of one turn may take before longer ones should wait for the next."""

_T = TypeVar("_T")


class TurnReads:
    """Reads of microseconds on the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshot: ShortSnapshot | None = None
        self._view: ReadView | None = None
        self._applied_index = 0
        self._ends_soon = False
        self._began = 0.0

    @property
    def is_long(self) -> bool:
        """Has this turn been reading for so long that others have waited enough?"""
        return self._ends_soon and perf_counter() - self._began > TURN_SECONDS_MAX

    def read(self, function: Callable[[ReadView], _T]) -> _T:
        """What `function` answers from the store as it is now."""
        view = self._view
        if view is None or self._applied_index != self._store.applied_index:
            view = self._begin()
        try:
            return function(view)
        except BaseException as error:
            self._end(error)
            raise

    def _begin(self) -> ReadView:
        self._end()
        # Looked at first: the snapshot may hold more than that, never less.
        self._applied_index = self._store.applied_index
        snapshot = self._store.read_short()
        self._view = snapshot.__enter__()
        self._snapshot = snapshot
        if not self._ends_soon:
            self._ends_soon = True
            self._began = perf_counter()
            asyncio.get_running_loop().call_soon(self._turn_ends)
        return self._view

    def _turn_ends(self) -> None:
        self._ends_soon = False
        with suppress(StorageError):  # What was read was read; the next snapshot will say it.
            self._end()

    def _end(self, error: BaseException | None = None) -> None:
        snapshot, self._snapshot, self._view = self._snapshot, None, None
        if snapshot is not None:
            snapshot.__exit__(None if error is None else type(error), error, None)
