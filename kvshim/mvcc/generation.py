"""One database in the store's life: who reads it, and its end when another has taken its place.

Any thread. A generation is never left by more than entered it, nor entered once it is retired.
"""

from __future__ import annotations

import threading

from kvshim.backend.backend import Backend
from kvshim.mvcc.hashing import CompactionHashes


class Generation:
    """A database and what is known of it alone."""

    __slots__ = ("_left", "_lock", "_users", "backend", "hashes")

    def __init__(self, backend: Backend, hashes: CompactionHashes) -> None:
        self.backend = backend
        self.hashes = hashes
        self._lock = threading.Lock()
        self._users = 1
        self._left = threading.Event()

    def enter(self) -> None:
        """A read begins."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """A read has ended."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._left.set()

    def retire(self) -> None:
        """Close the database and remove its files when the last read has ended; blocks."""
        self.leave()  # for what a store does with the one that it has
        self._left.wait()
        self.backend.discard()
