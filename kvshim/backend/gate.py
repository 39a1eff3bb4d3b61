"""Who may use kv.db at this moment: the writer, readers, or a checkpoint that needs both to pause.

A checkpoint that resets the WAL needs a moment without a writer and without a reader in the WAL.
While one asks for that moment, new transactions wait here, those under way end, and a reader
that does not end in time is not waited for (SQLite answers BUSY; the checkpoint tries again later).
Any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Gate:
    """Counts transactions and closes for a checkpoint."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._writing = False
        self._reads: dict[int, float] = {}
        self._next_read = 0
        self._copies: dict[int, float] = {}

    @property
    def closed(self) -> bool:
        """Does a checkpoint keep new transactions waiting?"""
        return self._closed

    def enter_write(self) -> None:
        """Wait until the writer may begin a transaction."""
        with self._changed:
            while self._closed or self._writing:
                self._changed.wait()
            self._writing = True

    def enter_settling(self, is_open: Callable[[], bool]) -> bool:
        """Wait until no batch is under way; True, and the writer's turn, if `is_open` still.

        A checkpoint is not waited for: it waits for this.
        """
        with self._changed:
            while self._writing:
                self._changed.wait()
            self._writing = is_open()
            return self._writing

    def leave_write(self) -> None:
        """The writer's turn has ended."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()

    def enter_read(self) -> int:
        """Wait until a read transaction may begin; returns its ticket."""
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._next_read += 1
            self._reads[self._next_read] = time.monotonic()
            return self._next_read

    def leave_read(self, ticket: int) -> None:
        """The read transaction has ended."""
        with self._changed:
            del self._reads[ticket]
            if self._closed:
                self._changed.notify_all()

    def enter_copy(self) -> int:
        """Wait until a read transaction of more than a second may begin; returns its ticket.

        While it lasts nobody waits for it, and no checkpoint asks for a moment without readers.
        """
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._next_read += 1
            self._copies[self._next_read] = time.monotonic()
            return self._next_read

    def leave_copy(self, ticket: int) -> None:
        """The long read has ended."""
        with self._changed:
            del self._copies[ticket]

    @property
    def copying(self) -> bool:
        """Is a long read of ours under way?"""
        return bool(self._copies)

    def oldest_read_seconds(self) -> float:
        """Age of the oldest read transaction of ours, 0 when there is none."""
        with self._changed:
            began = min([*self._reads.values(), *self._copies.values()], default=None)
            return 0.0 if began is None else time.monotonic() - began

    def reads(self) -> int:
        """Read transactions of ours under way."""
        with self._changed:
            return len(self._reads)

    @contextmanager
    def paused(self, readers_seconds: float) -> Iterator[bool]:
        """Keep new transactions waiting; True if also all earlier ones have ended.

        Waits for the writer for as long as its transaction takes, for readers as long as given.
        """
        deadline = time.monotonic() + readers_seconds
        with self._changed:
            self._closed = True
            while self._writing:
                self._changed.wait()
            while self._reads and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            alone = not (self._reads or self._copies)
        try:
            yield alone
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
