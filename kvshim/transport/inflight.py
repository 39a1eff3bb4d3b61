"""Calls in flight, so that a stopping server can let short ones finish and end long ones politely.

Streams have no end of their own: a server that waited for watches would always use up its grace.
So unary calls get the grace, then every call left is cancelled and answered with etcd's
"server stopped". Event loop only; knows no RPC library.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Any


class InFlight:
    """The tasks of all calls of one server."""

    def __init__(self) -> None:
        self._unary: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._stopped: set[asyncio.Task[Any]] = set()
        self._no_unary = asyncio.Event()
        self._no_unary.set()

    def unary(self) -> Tracked:
        """Context in which the current task serves a unary call."""
        return Tracked(self, self._unary)

    def stream(self) -> Tracked:
        """Context in which the current task serves a stream."""
        return Tracked(self, self._streams)

    async def drain(self, grace_seconds: float) -> None:
        """Wait for unary calls, at most `grace_seconds`, then end whatever is left."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._no_unary.wait(), grace_seconds)
        for task in self._unary | self._streams:
            self._stopped.add(task)
            task.cancel()

    def was_stopped(self, task: asyncio.Task[Any]) -> bool:
        """Whether it was the server, not the client, that cancelled this call."""
        return task in self._stopped

    def _enter(self, tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
        if tasks is self._unary and not tasks:
            self._no_unary.clear()
        tasks.add(task)

    def _leave(self, tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
        tasks.discard(task)
        self._stopped.discard(task)
        if not self._unary:
            self._no_unary.set()


class Tracked:
    """One call, from entering to leaving."""

    __slots__ = ("_inflight", "_task", "_tasks")

    def __init__(self, inflight: InFlight, tasks: set[asyncio.Task[Any]]) -> None:
        task = asyncio.current_task()
        assert task is not None, "calls run in tasks"
        self._inflight = inflight
        self._tasks = tasks
        self._task = task

    def __enter__(self) -> asyncio.Task[Any]:
        self._inflight._enter(self._tasks, self._task)
        return self._task

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._inflight._leave(self._tasks, self._task)
