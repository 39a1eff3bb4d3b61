"""Calls between nodes: a method's name and bytes there, bytes or a refusal back. Event loop.

One connection carries many calls at a time. Whoever is no member may make the calls that are open
to strangers, few at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from raft.pb import peer_pb2 as pb
from raft.transport.connection import ConnectionEnded, FrameConnection
from raft.transport.dialling import Dialler, watch
from raft.transport.frames import Frame, Kind, ProtocolError, frame, parsed
from raft.transport.handshake import HandshakeRefused
from raft.transport.options import (
    STRANGER,
    CallPeer,
    CallRefused,
    Hello,
    Purpose,
    TransportOptions,
)
from raft.types import MemberId

Handler = Callable[[bytes, CallPeer], Awaitable[bytes]]

CALL_OVERHEAD_BYTES = 1_024
"""What a frame may hold beside a call's payload."""


class CallConnection:
    """The side that calls, on one connection."""

    def __init__(self, connection: FrameConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[pb.CallAnswer]] = {}
        self.used_at = connection.heard_at
        connection.on_ended = self._ended
        connection.deliver_to(self._answers)

    @property
    def alive(self) -> bool:
        """May calls be made on it?"""
        return not self._connection.reason

    @property
    def busy(self) -> bool:
        """Is an answer awaited?"""
        return bool(self._waiting)

    async def call(self, method: str, payload: bytes, seconds: float) -> bytes:
        """Raises `CallRefused`, `OSError`."""
        if not self.alive:
            raise ConnectionEnded(self._connection.reason)
        loop = asyncio.get_running_loop()
        number = next(self._ids)
        answer: asyncio.Future[pb.CallAnswer] = loop.create_future()
        self._waiting[number] = answer
        self.used_at = loop.time()
        request = pb.CallRequest(
            id=number, method=method, payload=payload, timeout_ms=int(seconds * 1_000)
        )
        try:
            self._connection.write(frame(Kind.CALL_REQUEST, request.SerializeToString()))
            found = await answer
        finally:
            del self._waiting[number]
            self.used_at = loop.time()
        if found.code:
            raise CallRefused(found.code, found.text)
        return found.payload

    def close(self, reason: str) -> None:
        """End it; calls that wait fail."""
        self._connection.finish(reason)

    def _answers(self, frames: list[Frame]) -> None:
        for kind, body in frames:
            answer = parsed(pb.CallAnswer, kind, body, Kind.CALL_ANSWER)
            waiting = self._waiting.get(answer.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    def _ended(self, reason: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionEnded(reason))


class Caller:
    """Calls to members, each over one connection that is kept for a while, and to addresses."""

    def __init__(self, dialler: Dialler, urls_of: Callable[[MemberId], Sequence[str]]) -> None:
        self._dialler = dialler
        self._urls_of = urls_of
        self._kept: dict[MemberId, CallConnection] = {}
        self._opening: dict[MemberId, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(
        self,
        to: MemberId | str,
        method: str,
        payload: bytes,
        seconds: float,
        tls: ssl.SSLContext | None = None,
    ) -> bytes:
        """See `PeerTransport.call`."""
        limit = self._dialler.options.call_bytes_max
        if len(payload) > limit:
            raise CallRefused("too-large", f"a call holds at most {limit} bytes")
        async with asyncio.timeout(seconds):
            try:
                if isinstance(to, str):
                    return await self._call_address(to, method, payload, seconds, tls)
                calls = await self._connected(to)
            except HandshakeRefused as error:
                raise CallRefused("refused", str(error)) from None
            return await calls.call(method, payload, seconds)

    def forget(self, member: MemberId) -> None:
        """The member is gone, or has moved."""
        self._opening.pop(member, None)
        if (calls := self._kept.pop(member, None)) is not None:
            calls.close("the member has gone or moved")

    async def stop(self) -> None:
        """End all calls."""
        for calls in list(self._kept.values()):
            calls.close("this member stops")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call_address(
        self, url: str, method: str, payload: bytes, seconds: float, tls: ssl.SSLContext | None
    ) -> bytes:
        connection, _ = await self._dialler.open(url, STRANGER, Purpose.CALLS, tls)
        connection.allow(self._dialler.options.call_bytes_max + CALL_OVERHEAD_BYTES)
        calls = CallConnection(connection)
        watching = asyncio.create_task(self._watch(STRANGER, calls, connection))
        try:
            return await calls.call(method, payload, seconds)
        finally:
            watching.cancel()
            calls.close("the call has ended")

    async def _connected(self, member: MemberId) -> CallConnection:
        async with self._opening.setdefault(member, asyncio.Lock()):
            kept = self._kept.get(member)
            if kept is not None and kept.alive:
                return kept
            connection = await self._open(member)
            connection.allow(self._dialler.options.call_bytes_max + CALL_OVERHEAD_BYTES)
            calls = self._kept[member] = CallConnection(connection)
            task = asyncio.create_task(self._watch(member, calls, connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return calls

    async def _open(self, member: MemberId) -> FrameConnection:
        failure: OSError = ConnectionEnded(f"member {member:x} is not known")
        for url in self._urls_of(member):
            try:
                connection, _ = await self._dialler.open(url, member, Purpose.CALLS)
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure

    async def _watch(
        self, member: MemberId, calls: CallConnection, connection: FrameConnection
    ) -> None:
        pings = asyncio.create_task(watch(connection, self._dialler.options))
        idle_seconds = self._dialler.options.calls_idle_seconds
        clock = asyncio.get_running_loop().time
        try:
            while not pings.done():
                await asyncio.wait((pings,), timeout=idle_seconds / 4)
                if not calls.busy and clock() - calls.used_at > idle_seconds:
                    calls.close("no call was made for a while")
        finally:
            pings.cancel()
            with suppress(asyncio.CancelledError):
                await pings
            if self._kept.get(member) is calls:
                del self._kept[member]


@dataclass(slots=True)
class _Allowance:
    """So many a second, with as many saved up."""

    per_second: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        self.left = min(self.per_second, self.left + (now - self.at) * self.per_second)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class CallServer:
    """The side that answers, on all connections."""

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._handlers: dict[str, tuple[Handler, bool]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers = _Allowance(
            options.stranger_calls_per_second, options.stranger_calls_per_second, 0.0
        )

    def handle(self, method: str, handler: Handler, *, open_to_strangers: bool) -> None:
        """Who answers a method."""
        self._handlers[method] = handler, open_to_strangers

    def serve(self, connection: FrameConnection, hello: Hello, address: str) -> None:
        """Answer the calls that come in on a connection, from now on."""
        member = hello.member_id != STRANGER
        shown = connection.certificate
        peer = CallPeer(hello.member_id if member else None, shown.der if shown else None, address)
        payload_max = (
            self._options.call_bytes_max if member else self._options.stranger_call_bytes_max
        )
        connection.allow(payload_max + CALL_OVERHEAD_BYTES)
        mine: set[asyncio.Task[None]] = set()

        def requests(frames: list[Frame]) -> None:
            for kind, body in frames:
                request = parsed(pb.CallRequest, kind, body, Kind.CALL_REQUEST)
                if not connection.writable:
                    raise ProtocolError("it does not read its answers")
                reason = self._refusal(request, peer, len(mine))
                if reason is not None:
                    _answer(connection, request.id, reason)
                    continue
                task = asyncio.create_task(self._run(connection, request, peer))
                for tasks in (mine, self._tasks):
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)

        def ended(reason: str) -> None:
            for task in mine:
                task.cancel()

        connection.on_ended = ended
        connection.deliver_to(requests)

    async def stop(self) -> None:
        """End the calls being answered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _refusal(
        self, request: pb.CallRequest, peer: CallPeer, under_way: int
    ) -> CallRefused | None:
        stranger = peer.member_id is None
        handler = self._handlers.get(request.method)
        if stranger and (handler is None or not handler[1]):
            return CallRefused("not-a-member", "only members of the cluster may call this")
        if handler is None:
            return CallRefused("unknown-method", f"there is no method {request.method[:64]!r}")
        if under_way >= (1 if stranger else self._options.calls_at_once_max):
            return CallRefused("busy", "too many calls at once")
        if stranger and not self._strangers.take(asyncio.get_running_loop().time()):
            return CallRefused("busy", "too many calls from strangers: try again in a second")
        return None

    async def _run(
        self, connection: FrameConnection, request: pb.CallRequest, peer: CallPeer
    ) -> None:
        handler, _ = self._handlers[request.method]
        try:
            async with asyncio.timeout(min(max(request.timeout_ms, 1), 120_000) / 1_000):
                payload = await handler(request.payload, peer)
            if len(payload) > self._options.call_bytes_max:
                raise CallRefused("too-large", "the answer is too large")
        except CallRefused as refusal:
            _answer(connection, request.id, refusal)
        except TimeoutError:
            _answer(connection, request.id, CallRefused("timeout", "no answer in time"))
        except Exception as error:
            _answer(connection, request.id, CallRefused("failed", "the call failed there"))
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the handler of {request.method} failed", "exception": error}
            )
        else:
            answer = pb.CallAnswer(id=request.id, payload=payload)
            connection.write(frame(Kind.CALL_ANSWER, answer.SerializeToString()))


def _answer(connection: FrameConnection, number: int, refusal: CallRefused) -> None:
    answer = pb.CallAnswer(id=number, code=refusal.code, text=refusal.text[:1_000])
    connection.write(frame(Kind.CALL_ANSWER, answer.SerializeToString()))
