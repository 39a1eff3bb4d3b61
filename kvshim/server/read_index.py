"""Asking the log for read indices: one question at a time, for all reads that wait for it.

A read may use any index that was asked for after it came, so those that come while a question is
under way share the next one (etcd's linearizableReadLoop). Event loop.
"""

from __future__ import annotations

import asyncio

from kvshim.server.leadership import Leadership
from raft import interface as raft

ASK_AGAIN_SECONDS = 0.5
"""After this long a question may have been lost on its way, and is asked once more beside it."""

PAUSE_SECONDS = 0.05
"""Between a refusal and the next question while a leader is known that does not answer yet."""


class ReadIndices:
    """Shares `read_index` of a log. Each question goes on until it is answered or given up."""

    def __init__(
        self, log: raft.ReplicatedLog, leadership: Leadership, timeout_seconds: float
    ) -> None:
        self._log = log
        self._leadership = leadership
        self._timeout_seconds = timeout_seconds
        self._asked: asyncio.Future[raft.Index] | None = None
        self._next: asyncio.Future[raft.Index] | None = None
        self._task: asyncio.Task[None] | None = None

    async def newest(self) -> raft.Index:
        """An index that was asked for after this call. Raises `raft.NoLeader` when given up."""
        loop = asyncio.get_running_loop()
        if self._next is None:
            self._next = loop.create_future()
        mine = self._next
        if self._task is None:
            self._task = loop.create_task(self._run())
        return await asyncio.shield(mine)

    def give_up(self) -> None:
        """Fail those that wait now with `raft.NoLeader`."""
        for future in (self._asked, self._next):
            if future is not None and not future.done():
                future.set_exception(raft.NoLeader("no leader is known"))
                future.exception()  # seen, even if its readers have gone
        self._next = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        task = self._task
        try:
            while self._next is not None:
                self._asked, self._next = self._next, None
                await self._answer(self._asked)
        finally:
            if self._task is task:
                self._task = self._asked = None

    async def _answer(self, future: asyncio.Future[raft.Index]) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                index = await self._ask()
        except TimeoutError:
            if not future.done():
                future.set_exception(raft.NoLeader("no leader confirmed the read"))
                future.exception()
        except Exception as error:
            if not future.done():
                future.set_exception(error)
                future.exception()
        else:
            if not future.done():
                future.set_result(index)

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
