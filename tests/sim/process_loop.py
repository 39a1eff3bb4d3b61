"""An asyncio event loop in simulated time: what runs on it runs within one life of one process.

The production code above apply needs a loop for its tasks and timers. This one puts every callback
into the world's queue, so that a run repeats itself; its clock drifts with its process, which may
be paused, and nothing on it runs once the process is dead.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from inspect import CORO_CREATED, getcoroutinestate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.whole_member import WholeMember

PACE = 4
"""Seconds of a process's clock in one of the world: leases, whose least unit is a second, and the
timeouts of requests live through several leaders within a run."""

READ_US = 300
"""What a reader thread takes."""


class ProcessLoop(asyncio.AbstractEventLoop):
    """See the module. `end` when the process has died."""

    def __init__(self, member: WholeMember) -> None:
        self._member = member
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._dying: list[asyncio.Handle] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Code in here runs on this loop."""
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    @property
    def runs(self) -> bool:
        """Does its process live?"""
        return self._dying is None

    def end(self) -> None:
        """Let go of what runs; none of it happens any more, as far as anybody can see."""
        self._dying = ready = []
        for task in self._tasks:
            task.cancel()
            work = task.get_coro()
            if isinstance(work, Coroutine) and getcoroutinestate(work) == CORO_CREATED:
                work.close()  # its first step was scheduled, and comes no more
        with self.running():
            while ready:
                ready.pop(0)._run()

    def time(self) -> float:
        return PACE * self._member.world.now_us / 1e6 / self._member.speed.clock

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if self._dying is not None:
            self._dying.append(handle)
        else:
            self._member.later(0, lambda: self._run(handle))
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if self._dying is None:
            # A microsecond more: no timer is early, whatever rounding does.
            delay_us = (when - self.time()) / PACE * 1e6 * self._member.speed.clock + 1
            self._member.later(max(delay_us, 0), lambda: self._run(timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(lambda _: self._tasks.pop(task, None))
        return task

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """A thread reads the store; nothing else does this here."""
        future = self.create_future()

        def read() -> None:
            try:
                result = func(*args)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        if self._dying is None:
            self._member.later(READ_US, read)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a callback raises fails the run; errors that nobody asked for are no matter."""
        if "handle" in context and self._dying is None:
            raise context["exception"]

    def _run(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            with self.running():
                handle._run()
