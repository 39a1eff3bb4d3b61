"""Keeps the WAL of raft.db small without delaying appends.

The WAL is copied into the file by a thread of its own, "raft-checkpoint", beside the appends; the
few frames written meanwhile are copied between two appends, and the WAL starts over. All methods
belong to the raft thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from raft.database import WalCopier
from raft.storage import LogStorage


class WalCopying:
    """Copies when the WAL of `storage` is larger than its limit.

    `wake` is called on the other thread when a copy is done: `look` again then. `on_pinned` gets
    the WAL's bytes when an outside reader keeps it from starting over, once until `on_released`
    says that it has left.
    """

    def __init__(
        self,
        storage: LogStorage,
        *,
        wake: Callable[[], None],
        on_pinned: Callable[[int], None],
        on_released: Callable[[], None],
    ) -> None:
        """Raises `LogError`."""
        self._storage = storage
        self._wake = wake
        self._on_pinned = on_pinned
        self._on_released = on_released
        self._copier = WalCopier(storage.path, storage.options)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="raft-checkpoint")
        self._copying: Future[None] | None = None
        self._bytes_limit = storage.options.wal_bytes_max
        self._pinned = False

    def look(self) -> None:
        """Begin to copy when there is enough, finish what was copied. Raises `LogError`."""
        if self._copying is not None and self._copying.done():
            self._finish()
        if self._copying is None and self._storage.wal_bytes > self._bytes_limit:
            self._copying = self._worker.submit(self._copier.copy)
            self._copying.add_done_callback(lambda _: self._wake())

    def close(self) -> None:
        """Wait for a copy that goes on, finish it, and close. Raises `LogError`."""
        self._finish()
        self._copier.close()

    def abandon(self) -> None:
        """End the thread; harmless after `close`."""
        self._worker.shutdown(wait=True)

    def _finish(self) -> None:
        """Copy the few frames written since, between two appends: then the WAL starts over.

        While appends go on a checkpoint beside them never catches up with the end of the WAL,
        which would grow without bound. A foreign reader can still hold it: then try again later.
        """
        if self._copying is None:
            return
        self._copying.result()
        self._copying = None
        self._bytes_limit = self._storage.options.wal_bytes_max
        if self._storage.checkpoint():
            if self._pinned:
                self._on_released()
            self._pinned = False
            return
        self._bytes_limit += self._storage.wal_bytes
        if not self._pinned:
            self._on_pinned(self._storage.wal_bytes)
        self._pinned = True
