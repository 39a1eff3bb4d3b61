"""A stream whose client vanishes between two messages, in the order that is hard to provoke.

grpc may fail a write before it cancels the handler; a context of our own makes it do so.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from kvshim.metrics.registry import Metrics
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Bidi, BidiCall, Call, ServerStream
from kvshim.transport.grpcio_handlers import BidiRunner, HandlerOptions, ServerStreamRunner
from kvshim.transport.inflight import InFlight


class DeadContext:
    """A servicer context at whose other end nobody is any more."""

    def peer(self):
        return "ipv4:127.0.0.1:1"

    async def read(self) -> Any:
        raise grpc.aio.UsageError("RPC already finished.")

    async def write(self, _message: bytes) -> None:
        raise grpc.aio.InternalError("Failed execute_batch")

    async def abort(self, _code: object, _details: str) -> Any:
        raise AssertionError("there is nobody to tell")

    def invocation_metadata(self) -> None:
        return None

    def time_remaining(self) -> None:
        return None


class Story:
    def __init__(self) -> None:
        self.closed = False
        self.failures: list[str] = []
        self.metrics = Metrics()

    @property
    def options(self) -> HandlerOptions:
        return HandlerOptions(1000, None, lambda path, _error: self.failures.append(path))

    def runner(self, kind: Callable[..., Any], method: Any) -> Any:
        return kind(method, self.metrics.calls, InFlight(), self.options)

    def canceled(self, grpc_type: str) -> float | None:
        labels = {"grpc_type": grpc_type, "grpc_service": "s", "grpc_method": "m"}
        return self.metrics.registry.get_sample_value(
            "grpc_server_handled_total", {**labels, "grpc_code": "Canceled"}
        )


async def test_a_generator_left_halfway_is_closed_at_once():
    story = Story()

    async def handler(_request: Any, _call: Call) -> AsyncIterator[Any]:
        try:
            yield rpc_pb2.RangeResponse()
        finally:
            story.closed = True

    method = ServerStream("/s/m", rpc_pb2.RangeRequest, handler)
    runner = story.runner(ServerStreamRunner, method)
    with pytest.raises(asyncio.CancelledError):
        await runner.serve(b"", DeadContext())
    assert story.closed
    assert story.failures == []
    assert story.canceled("server_stream") == 1


@pytest.mark.parametrize("step", ["send", "receive"])
async def test_a_bidi_handler_sees_its_cancellation(step: str):
    story = Story()

    async def handler(call: BidiCall) -> None:
        try:
            if step == "send":
                await call.send(b"")
            else:
                await call.receive()
        except asyncio.CancelledError:
            story.closed = True
            raise

    runner = story.runner(BidiRunner, Bidi("/s/m", rpc_pb2.RangeRequest, handler))
    with pytest.raises(asyncio.CancelledError):
        await runner.serve(None, DeadContext())
    assert story.closed
    assert story.failures == []
    assert story.canceled("bidi_stream") == 1
