"""Commands on their way into the log, and the requests that wait for their outcome.

A command is never proposed twice: once it may have reached a leader, an unknown outcome is etcd's
timeout error, not a retry. Event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

from kvshim.errors import (
    NoLeader,
    RequestError,
    RequestTimedOut,
    RequestTooLarge,
    Stopped,
    TooManyRequests,
)
from kvshim.pb.kvshim.command_pb2 import Command
from raft import interface as raft

WAITING_MAX = 5_000
"""Requests proposed and not yet answered; etcd allows as many committed and not yet applied."""

_M = TypeVar("_M", bound=Message)


class Proposer:
    """Proposes commands and gives each caller the response that apply made for it."""

    def __init__(
        self,
        log: raft.ReplicatedLog,
        member_id: int,
        request_bytes_max: int,
        timeout_seconds: float,
    ) -> None:
        self._log = log
        self._request_bytes_max = request_bytes_max
        self._timeout_seconds = timeout_seconds
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        # All requests wait equally long, so their deadlines come in the order they were made.
        self._deadlines: deque[tuple[float, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._next_id = _first_id(member_id)
        self._stopped = False
        self.failed_total = 0

    @property
    def pending(self) -> int:
        """Requests that wait for their outcome."""
        return len(self._waiting)

    def new_id(self) -> int:
        """A positive 63-bit number that no other command of the cluster has, for a lease's id."""
        self._next_id += 1
        return self._next_id & (1 << 63) - 1

    async def propose(self, command: Command, response: type[_M]) -> _M:
        """Replicate and apply `command`; returns its response or raises its `RequestError`."""
        if self._stopped:
            raise Stopped
        if len(self._waiting) >= WAITING_MAX:
            raise TooManyRequests
        self._next_id += 1
        command.id = self._next_id
        data = command.SerializeToString()
        if len(data) > self._request_bytes_max:
            raise RequestTooLarge
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[command.id] = future
        try:
            self._hand_over(data)
            self._limit(command.id)
            answer = await future
        finally:
            self._waiting.pop(command.id, None)
        assert isinstance(answer, response)
        return answer

    def settle(self, answers: Iterable[tuple[int, Message | RequestError]]) -> None:
        """Answer the requests that wait here; other members' commands have no waiter."""
        for command_id, answer in answers:
            future = self._waiting.get(command_id)
            if future is None or future.done():
                continue
            if isinstance(answer, RequestError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def stop(self) -> None:
        """Refuse new requests and fail those that wait: their outcome is not known here."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Stopped())

    def _limit(self, command_id: int) -> None:
        """Note the request's deadline. One timer serves all: each of its own would cost more than
        the rest of the way through here.
        """
        loop = asyncio.get_running_loop()
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            self._deadlines.popleft()
        self._deadlines.append((loop.time() + self._timeout_seconds, command_id))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_seconds, self._expire)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._deadlines:
            deadline, command_id = self._deadlines[0]
            future = self._waiting.get(command_id)
            if future is not None and deadline > now:
                self._timer = loop.call_at(deadline, self._expire)
                return
            self._deadlines.popleft()
            if future is not None and not future.done():
                self.failed_total += 1
                future.set_exception(RequestTimedOut())
        self._timer = None

    def _hand_over(self, data: bytes) -> None:
        try:
            self._log.propose(data)
        except raft.TooManyProposals:
            self.failed_total += 1
            raise TooManyRequests from None
        except raft.NoLeader:
            self.failed_total += 1
            raise NoLeader from None
        except raft.ProposalDropped:
            self.failed_total += 1
            raise Stopped from None


def _first_id(member_id: int) -> int:
    """Two bytes of the member, five of the start time in ms, one to count: unique over restarts."""
    started_ms = int(time.time() * 1000) & (1 << 40) - 1
    return (member_id & 0xFFFF) << 48 | started_ms << 8
