"""Calls in flight, so that a stopping server can let short ones finish and end long ones politely.

Streams have no end of their own: a server that waited for watches would always use up its grace.
So unary calls get the grace, then every call left is cancelled and answered with etcd's
"server stopped". Event loop only; knows no RPC library.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any


class InFlight:
    """All calls of one server: their tasks, and those that are answered without one."""

    def __init__(self) -> None:
        self._unary: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._stopped: set[asyncio.Task[Any]] = set()
        self._taskless: dict[object, Callable[[], None]] = {}
        self._no_unary: asyncio.Future[None] | None = None
        """Of a server that stops."""

    def unary(self) -> Tracked:
        """Context in which the current task serves a unary call."""
        return Tracked(self, self._unary)

    def stream(self) -> Tracked:
        """Context in which the current task serves a stream."""
        return Tracked(self, self._streams)

    def begin(self, call: object, stop: Callable[[], None]) -> None:
        """A unary call goes on without a task, until `end`; `stop` ends it earlier."""
        self._taskless[call] = stop

    def end(self, call: object) -> None:
        """The call is over."""
        self._taskless.pop(call, None)
        if self._no_unary is not None:
            self._tell_if_none()

    async def drain(self, grace_seconds: float) -> None:
        """Wait for unary calls, at most `grace_seconds`, then end whatever is left."""
        self._no_unary = asyncio.get_running_loop().create_future()
        self._tell_if_none()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._no_unary, grace_seconds)
        self._no_unary = None
        for stop in list(self._taskless.values()):
            stop()
        for task in self._unary | self._streams:
            self._stopped.add(task)
            task.cancel()

    def was_stopped(self, task: asyncio.Task[Any]) -> bool:
        """Whether it was the server, not the client, that cancelled this call."""
        return task in self._stopped

    def _enter(self, tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
        tasks.add(task)

    def _leave(self, tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
        tasks.discard(task)
        self._stopped.discard(task)
        if self._no_unary is not None:
            self._tell_if_none()

    def _tell_if_none(self) -> None:
        done = self._no_unary
        if done is not None and not done.done() and not self._unary and not self._taskless:
            done.set_result(None)


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
