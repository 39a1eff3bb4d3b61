"""What calls have in common: a leader if the client asks for one, and a word about slow ones."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from kvshim.errors import NoLeader, NotSupportedForLearner
from kvshim.logs import Event, Logger
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Bidi, BidiCall, Call, Method, QuickHandler, Reply, ServerStream, Unary
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

    def check(call: Call) -> None:
        if requires_leader(call) and log.status().leader_id == 0:
            raise NoLeader

    def check_unary(request: Message, call: Call) -> None:
        check(call)
        if refuses() and not learners_answer(request):
            raise NotSupportedForLearner

    def refuse_learner_stream(method: Method) -> None:
        if refuses() and not method.path.startswith(LEARNERS_STREAM):
            raise NotSupportedForLearner

    def guarded(method: Method) -> Method:
        match method:
            case Unary():
                return guarded_unary(method)
            case ServerStream():
                return guarded_stream(method)
            case Bidi():
                return guarded_bidi(method)

    def guarded_stream(method: ServerStream) -> ServerStream:
        handler = method.handler

        def serve(request: Message, call: Call) -> AsyncIterator[Message | bytes]:
            refuse_learner_stream(method)
            check(call)
            return handler(request, call)

        return replace(method, handler=serve)

    def guarded_bidi(method: Bidi) -> Bidi:
        handler = method.handler

        async def serve(call: BidiCall) -> None:
            refuse_learner_stream(method)
            check(call)
            await handler(call)

        return replace(method, handler=serve)

    def guarded_unary(method: Unary) -> Unary:
        handler = method.handler

        async def serve(request: Message, call: Call) -> Reply:
            check_unary(request, call)
            started = time.perf_counter()
            reply = await handler(request, call)
            took = time.perf_counter() - started
            if took > slow_seconds:
                logger.warn(
                    Event.SLOW_REQUEST,
                    method=method.path,
                    took_seconds=round(took, 3),
                    request_bytes=request.ByteSize(),
                )
            return reply

        return replace(method, handler=serve, at_once=guarded_quick(method.at_once))

    def guarded_quick(quick: QuickHandler | None) -> QuickHandler | None:
        if quick is None:
            return None

        def serve(request: Message, call: Call) -> Reply | None:
            check_unary(request, call)
            return quick(request, call)

        return serve

    return [guarded(method) for method in methods]
