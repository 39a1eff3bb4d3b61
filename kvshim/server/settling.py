"""Commits what short batches left open in the store, once they are over.

Nobody who asks the node needs it, but other programs that look into kv.db, and a checkpoint.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from kvshim.errors import StorageError
from kvshim.mvcc.store import Store

SETTLE_SECONDS: Final = 1.0


class Settling:
    """Event loop; one timer at a time, and none while nothing is written."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store) -> None:
        self._loop = loop
        self._store = store
        self._timer: asyncio.TimerHandle | None = None

    def observe(self) -> None:
        """A batch is applied."""
        if self._timer is None and self._store.is_open:
            self._timer = self._loop.call_later(SETTLE_SECONDS, self._settle)

    def _settle(self) -> None:
        self._timer = None
        with suppress(StorageError):  # It has ended the node, which says why.
            self._store.settle()
