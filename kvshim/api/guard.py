"""What calls have in common: a leader if the client asks for one, and a word about slow ones."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from kvshim.errors import NoLeader, NotSupportedForLearner
from kvshim.logs import Event, Logger
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import (
    Answer,
    Bidi,
    BidiCall,
    Call,
    Later,
    Method,
    Reply,
    ServerStream,
    Unary,
)
from raft.interface import ReplicatedLog

LEARNERS_STREAM = ("/grpc.", "/etcdserverpb.Maintenance/Snapshot")
"""What a member without a vote streams, by how the method begins: as in etcd, no keys."""


def requires_leader(call: Call) -> bool:
    """True when the client would rather fail than wait without a leader (`WithRequireLeader`)."""
    return call.metadata.get("hasleader") == "true"


def learners_answer(request: Message) -> bool:
    """A member without a vote serves what it has, and tells how it is; as in etcd."""
    match request:
        case rpc_pb2.RangeRequest():
            return request.serializable
        case _:
            return isinstance(request, rpc_pb2.StatusRequest | health_pb2.HealthCheckRequest)


def guard(
    methods: Sequence[Method],
    log: ReplicatedLog,
    logger: Logger,
    slow_seconds: float,
    refuses: Callable[[], bool],
) -> list[Method]:
    """The same methods, guarded.

    With the header `hasleader` a new call or stream fails at once when no leader is known; one
    that is under way goes on, since a failover must not end it. A unary call that takes longer than
    `slow_seconds` is logged with its method and size, never with its content. While `refuses`, only
    what learners serve in etcd is served.
    """
    rules = _Rules(log, logger, slow_seconds, refuses)
    return [_guarded(method, rules) for method in methods]


def _guarded(method: Method, rules: _Rules) -> Method:
    match method:
        case Unary():
            unary = _GuardedUnary(method, rules)
            at_once = None if method.at_once is None else unary.at_once
            return replace(method, handler=unary.serve, at_once=at_once)
        case ServerStream():
            return replace(method, handler=_GuardedStream(method, rules).serve)
        case Bidi():
            return replace(method, handler=_GuardedBidi(method, rules).serve)


class _Rules:
    """What is asked of every call."""

    def __init__(
        self,
        log: ReplicatedLog,
        logger: Logger,
        slow_seconds: float,
        refuses: Callable[[], bool],
    ) -> None:
        self._log = log
        self._logger = logger
        self._slow_seconds = slow_seconds
        self._refuses = refuses

    def check_unary(self, request: Message, call: Call) -> None:
        self._check_leader(call)
        if self._refuses() and not learners_answer(request):
            raise NotSupportedForLearner

    def check_stream(self, path: str, call: Call) -> None:
        if self._refuses() and not path.startswith(LEARNERS_STREAM):
            raise NotSupportedForLearner
        self._check_leader(call)

    def tell_if_slow(self, path: str, request: Message, took_seconds: float) -> None:
        if took_seconds > self._slow_seconds:
            self._logger.warn(
                Event.SLOW_REQUEST,
                method=path,
                took_seconds=round(took_seconds, 3),
                request_bytes=request.ByteSize(),
            )

    def _check_leader(self, call: Call) -> None:
        if requires_leader(call) and self._log.status().leader_id == 0:
            raise NoLeader


class _GuardedUnary:
    def __init__(self, method: Unary, rules: _Rules) -> None:
        self._path = method.path
        self._handler = method.handler
        self._quick = method.at_once
        self._rules = rules

    async def serve(self, request: Message, call: Call) -> Reply:
        self._rules.check_unary(request, call)
        started = time.perf_counter()
        reply = await self._handler(request, call)
        self._rules.tell_if_slow(self._path, request, time.perf_counter() - started)
        return reply

    def at_once(self, request: Message, call: Call) -> Reply | Later | None:
        self._rules.check_unary(request, call)
        assert self._quick is not None
        reply = self._quick(request, call)
        if isinstance(reply, Later):
            reply.then(partial(self._settled, request, time.perf_counter()))
        return reply

    def _settled(self, request: Message, started: float, _answer: Answer) -> None:
        self._rules.tell_if_slow(self._path, request, time.perf_counter() - started)


class _GuardedStream:
    def __init__(self, method: ServerStream, rules: _Rules) -> None:
        self._path = method.path
        self._handler = method.handler
        self._rules = rules

    def serve(self, request: Message, call: Call) -> AsyncIterator[Message | bytes]:
        self._rules.check_stream(self._path, call)
        return self._handler(request, call)


class _GuardedBidi:
    def __init__(self, method: Bidi, rules: _Rules) -> None:
        self._path = method.path
        self._handler = method.handler
        self._rules = rules

    async def serve(self, call: BidiCall) -> None:
        self._rules.check_stream(self._path, call)
        await self._handler(call)
