"""Read-only connections, opened when first needed: a bounded pool, and some for short reads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kvshim.backend.session import Session


class ReaderPool:
    """Hands each connection to one thread at a time. Any thread."""

    def __init__(self, open_session: Callable[[], Session], connections_max: int) -> None:
        self._open = open_session
        self._free_to_take = threading.BoundedSemaphore(connections_max)
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        self._closed = False

    def take(self) -> Session:
        """A connection; waits while all are in use."""
        self._free_to_take.acquire()
        try:
            with self._lock:
                if self._idle:
                    return self._idle.pop()
            return self._open()
        except BaseException:
            self._free_to_take.release()
            raise

    def give_back(self, session: Session) -> None:
        """Return a connection whose transaction has ended."""
        with self._lock:
            if self._closed:
                session.close()
            else:
                self._idle.append(session)
        self._free_to_take.release()

    def discard(self, session: Session) -> None:
        """Close a connection whose state is in doubt."""
        session.close()
        self._free_to_take.release()

    def close(self) -> None:
        """Close the connections: those in use once they come back."""
        with self._lock:
            self._closed = True
            for session in self._idle:
                session.close()
            self._idle.clear()


class ShortReaders:
    """Connections for reads of microseconds: one, unless such reads are nested.

    Nobody waits, and no lock is taken, or it would cost as much as the read.
    """

    def __init__(self, open_session: Callable[[], Session]) -> None:
        self._open = open_session
        self._idle: list[Session] = []
        self._closed = False

    def take(self) -> Session:
        """A connection."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def give_back(self, session: Session) -> None:
        """Return a connection whose transaction has ended."""
        self._idle.append(session)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close the connections: those in use once they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
