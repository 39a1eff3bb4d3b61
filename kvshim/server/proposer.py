"""Commands on their way into the log, and the requests that wait for their outcome.

What the log did not take waits here for the next leader. Once it took a command it is never
proposed again: it may have reached a leader, so an unknown outcome is etcd's timeout error, not a
retry. Event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from kvshim.errors import (
    NoLeader,
    RequestError,
    RequestTimedOut,
    RequestTimedOutByConnectionLost,
    RequestTimedOutByLeaderFailure,
    RequestTooLarge,
    Stopped,
    TooManyRequests,
)
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.rpc import Answer, Later
from kvshim.server.leadership import Leadership
from raft import interface as raft

WAITING_MAX = 5_000
"""Requests proposed and not yet answered; etcd allows as many committed and not yet applied."""

UNSENT_BYTES_MAX = 64 << 20
"""Bytes of commands that wait for a leader."""

OFFER_AGAIN_SECONDS = 0.05
"""While a leader is known that takes nothing, such as during a transfer."""

_M = TypeVar("_M", bound=Message)


class Gate(Protocol):
    """What the cluster's version lets pass; `kvshim.server.versions`."""

    closed: frozenset[str]
    """Kinds of command that have to wait: none, once all members run the same program."""

    async def admit(self, command: Command) -> None:
        """Wait until it may be proposed. Raises `RequestError`."""


class Proposer:
    """Proposes commands and gives each caller the response that apply made for it.

    Without `leadership` nothing waits for a leader. `connected_since(moment)` says whether this
    member has been able to reach its leader, or as leader a majority, ever since (loop's clock).
    """

    def __init__(
        self,
        log: raft.ReplicatedLog,
        member_id: int,
        request_bytes_max: int,
        timeout_seconds: float,
        *,
        leadership: Leadership | None = None,
        connected_since: Callable[[float], bool] = lambda _: True,
        gate: Gate | None = None,
    ) -> None:
        self._log = log
        self._gate = gate
        self._request_bytes_max = request_bytes_max
        self._timeout_seconds = timeout_seconds
        self._leadership = leadership
        self._connected_since = connected_since
        # Commands that the log did not take, in order, and what they take up here.
        self._unsent: deque[tuple[int, bytes]] = deque()
        self._unsent_bytes = 0
        self._offer_timer: asyncio.TimerHandle | None = None
        if leadership is not None:
            leadership.on_change(self._offer)
        self._waiting: dict[int, Later] = {}
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
        return self._new_number() & (1 << 63) - 1

    def begin(self, command: Command) -> Later | None:
        """Replicate and apply `command`: its answer to come, or None if it has to wait before.

        Raises `RequestError`.
        """
        if self._gate is not None and self._gate.closed:
            return None
        return self._begin(command)

    async def propose(self, command: Command, response: type[_M]) -> _M:
        """Replicate and apply `command`; returns its response or raises its `RequestError`."""
        if self._stopped:
            raise Stopped
        if self._gate is not None and self._gate.closed:
            await self._gate.admit(command)
        later = self._begin(command)
        try:
            answer = await _future_of(later)
        finally:
            later.drop()
        assert isinstance(answer, response)
        return answer

    async def propose_change(
        self, change: Callable[[int], raft.ConfChange], response: type[_M]
    ) -> _M:
        """Propose the change of members made for a command's id, and wait until it is applied.

        Raises `raft.ConfChangeRefused` with the rule that it breaks, and `RequestError`.
        """
        if self._stopped:
            raise Stopped
        command_id = self._new_number()
        later = self._wait_for(command_id)
        future = _future_of(later)
        self._limit(command_id)
        try:
            await self._log.propose_change(change(command_id))
            answer = await future
        except raft.ConfChangeRefused:
            raise
        except raft.ProposalDropped as error:
            raise _refusal(error) from None
        finally:
            later.drop()
        assert isinstance(answer, response)
        return answer

    def settle(self, answers: Iterable[tuple[int, Answer]]) -> None:
        """Answer the requests that wait here; other members' commands have no waiter."""
        for command_id, answer in answers:
            later = self._waiting.pop(command_id, None)
            if later is not None:
                later.settle(answer)

    def stop(self) -> None:
        """Refuse new requests and fail those that wait: their outcome is not known here."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._offer_timer is not None:
            self._offer_timer.cancel()
        self._unsent.clear()
        for later in list(self._waiting.values()):
            later.settle(Stopped())
        self._waiting.clear()

    def _begin(self, command: Command) -> Later:
        if self._stopped:
            raise Stopped
        if len(self._waiting) >= WAITING_MAX:
            raise TooManyRequests
        command.id = command_id = self._new_number()
        data = command.SerializeToString()
        if len(data) > self._request_bytes_max:
            raise RequestTooLarge
        later = self._wait_for(command_id)
        try:
            self._hand_over(command_id, data)
        except RequestError:
            later.drop()
            raise
        self._limit(command_id)
        return later

    def _wait_for(self, command_id: int) -> Later:
        later = self._waiting[command_id] = Later(partial(self._waiting.pop, command_id, None))
        return later

    def _new_number(self) -> int:
        self._next_id += 1
        return self._next_id

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
            if command_id in self._waiting and deadline > now:
                self._timer = loop.call_at(deadline, self._expire)
                break
            self._deadlines.popleft()
            if (later := self._waiting.pop(command_id, None)) is not None:
                self.failed_total += 1
                later.settle(self._why_late(deadline - self._timeout_seconds))
        else:
            self._timer = None
        while self._unsent and self._unsent[0][0] not in self._waiting:
            self._drop_first()

    def _why_late(self, began: float) -> RequestError:
        """etcd's distinctions (`server/etcdserver/util.go`, parseProposeCtxErr)."""
        leadership = self._leadership
        if leadership is not None and leadership.failed_over_during(began):
            return RequestTimedOutByLeaderFailure()
        if leadership is not None and leadership.has_leader and not self._connected_since(began):
            return RequestTimedOutByConnectionLost()
        return RequestTimedOut()

    def _hand_over(self, command_id: int, data: bytes) -> None:
        """Give a command to the log, or keep it for the next leader if it was not taken."""
        try:
            self._log.propose(data)
        except (raft.NoLeader, raft.NotLeader, raft.TransferInProgress):
            if self._leadership is None:
                self.failed_total += 1
                raise NoLeader from None
            self._keep(command_id, data)
        except raft.ProposalDropped as error:
            self.failed_total += 1
            raise _refusal(error) from None

    def _keep(self, command_id: int, data: bytes) -> None:
        if self._unsent_bytes + len(data) > UNSENT_BYTES_MAX:
            self.failed_total += 1
            raise TooManyRequests
        self._unsent.append((command_id, data))
        self._unsent_bytes += len(data)
        self._offer_later()

    def _offer(self) -> None:
        """Propose what waits for a leader, in order, until the log takes no more."""
        leadership = self._leadership
        if leadership is None or not leadership.has_leader or self._stopped:
            return
        while self._unsent:
            command_id, data = self._unsent[0]
            if command_id in self._waiting:
                try:
                    self._log.propose(data)
                except (raft.NoLeader, raft.NotLeader, raft.TransferInProgress):
                    self._offer_later()
                    return
                except raft.ProposalDropped as error:
                    self.failed_total += 1
                    self._waiting.pop(command_id).settle(_refusal(error))
            self._drop_first()

    def _offer_later(self) -> None:
        """A change of leader will bring the next try; while one is known, time does too."""
        if self._offer_timer is not None:
            return
        loop = asyncio.get_running_loop()

        def offer() -> None:
            self._offer_timer = None
            self._offer()

        if self._leadership is not None and self._leadership.has_leader:
            self._offer_timer = loop.call_later(OFFER_AGAIN_SECONDS, offer)

    def _drop_first(self) -> None:
        self._unsent_bytes -= len(self._unsent.popleft()[1])


def _future_of(later: Later) -> asyncio.Future[Message]:
    future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    later.then(partial(_resolve, future))
    return future


def _resolve(future: asyncio.Future[Message], answer: Answer) -> None:
    if future.done():
        return
    if isinstance(answer, RequestError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _refusal(error: raft.ProposalDropped) -> RequestError:
    return TooManyRequests() if isinstance(error, raft.TooManyProposals) else Stopped()


def _first_id(member_id: int) -> int:
    """Two bytes of the member, five of the start time in ms, one to count: unique over restarts."""
    started_ms = int(time.time() * 1000) & (1 << 40) - 1
    return (member_id & 0xFFFF) << 48 | started_ms << 8
