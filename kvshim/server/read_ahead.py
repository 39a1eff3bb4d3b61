"""Pieces of a long answer, each read on a reader thread while those before it leave.

Whoever has read a piece asks for the next one itself: by way of the event loop that took half a
millisecond, a tenth of a list. Each piece is a job of its own, so long lists and short reads share
the threads. A client that is slow, or gone, is read for no further than `PIECES_AHEAD`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Generic, TypeVar

PIECES_AHEAD: Final = 2
"""Pieces that may wait for the client, the one that is being read included."""

_T = TypeVar("_T")


class ReadAhead(Generic[_T]):
    """What `read` returns, one after the other, up to the first that is empty. Event loop.

    `read` runs on the threads of `executor`, never twice at a time.
    """

    def __init__(self, executor: Executor, read: Callable[[], _T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._read = read
        self._waiting: deque[_T] = deque()
        self._wakeup: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._pieces_read = 0  # by the threads
        self._pieces_taken = 0
        self._rests = False
        executor.submit(self._job)

    async def next(self) -> _T:
        """The next piece. Raises what `read` raised, behind the pieces before it."""
        while not self._waiting:
            if self._error is not None:
                raise self._error
            self._wakeup = self._loop.create_future()
            await self._wakeup
        self._pieces_taken += 1
        if self._rests:
            self._rests = False
            self._executor.submit(self._job)
        return self._waiting.popleft()

    def _job(self) -> None:
        try:
            piece = self._read()
            self._pieces_read += 1
            goes_on = bool(piece) and self._pieces_read - self._pieces_taken < PIECES_AHEAD
            self._loop.call_soon_threadsafe(self._arrived, piece, goes_on)
            if goes_on:
                self._executor.submit(self._job)
        except BaseException as error:
            self._loop.call_soon_threadsafe(self._failed, error)

    def _arrived(self, piece: _T, goes_on: bool) -> None:  # noqa: FBT001 - a callback's argument
        self._waiting.append(piece)
        self._rests = bool(piece) and not goes_on
        self._wake()

    def _failed(self, error: BaseException) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
