"""Asking the log for read indices: one question at a time, for all reads that wait for it.

A read may use any index that was asked for after it came, so those that come while a question is
under way share the next one (etcd's linearizableReadLoop). Event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from kvshim.server.leadership import Leadership
from raft import interface as raft

ASK_AGAIN_SECONDS = 0.5
"""After this long a question may have been lost on its way, and is asked once more beside it."""

PAUSE_SECONDS = 0.05
"""Between a refusal and the next question while a leader is known that does not answer yet."""


class ReadIndices:
    """Shares `read_index` of a log. Each question goes on until it is answered or given up."""

    # A read has a future of its own and no timer: of what a follower spends on one, a shared
    # future that must survive its waiters and a timer each took a quarter.

    def __init__(
        self, log: raft.ReplicatedLog, leadership: Leadership, timeout_seconds: float
    ) -> None:
        self._log = log
        self._leadership = leadership
        self._timeout_seconds = timeout_seconds
        self._asked: list[asyncio.Future[raft.Index]] = []
        self._next: list[asyncio.Future[raft.Index]] = []
        self._task: asyncio.Task[None] | None = None
        # All reads wait equally long, so their deadlines come in the order they were asked.
        self._deadlines: deque[tuple[float, asyncio.Future[raft.Index]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def newest(self) -> raft.Index:
        """An index that was asked for after this call.

        Raises `raft.NoLeader` when given up, TimeoutError after the timeout.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[raft.Index] = loop.create_future()
        self._next.append(future)
        if self._task is None:
            self._task = loop.create_task(self._run())
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        self._deadlines.append((loop.time() + self._timeout_seconds, future))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_seconds, self._expire)
        return await future

    def give_up(self) -> None:
        """Fail those that wait now with `raft.NoLeader`."""
        waiting, self._asked, self._next = [*self._asked, *self._next], [], []
        _fail(waiting, raft.NoLeader("no leader is known"))
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        task = self._task
        try:
            while self._next:
                asked = self._asked = self._next
                self._next = []
                try:
                    index = await self._ask()
                except Exception as error:
                    _fail(asked, error)
                    continue
                for future in asked:
                    if not future.done():
                        future.set_result(index)
        finally:
            if self._task is task:
                self._task = None

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._deadlines:
            deadline, future = self._deadlines[0]
            if not future.done() and deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire)
                return
            self._deadlines.popleft()
            _fail([future], TimeoutError())

    async def _ask(self) -> raft.Index:
        questions: set[asyncio.Task[raft.Index]] = set()
        try:
            while True:
                questions.add(asyncio.create_task(self._question()))
                done, questions = await asyncio.wait(
                    questions,
                    timeout=ASK_AGAIN_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for question in done:
                    return question.result()
        finally:
            for question in questions:
                question.cancel()

    async def _question(self) -> raft.Index:
        while True:
            await self._leadership.known()
            try:
                return await self._log.read_index()
            except raft.NoLeader:
                await asyncio.sleep(PAUSE_SECONDS)


def _fail(waiting: Iterable[asyncio.Future[raft.Index]], error: Exception) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(error)
