"""Unary calls that are begun within their turn and answered in a later one, without a task."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError

from kvshim.errors import EmptyKey
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Later
from tests.transport.serving import RANGE
from tests.transport_http2 import peer as p
from tests.transport_http2.test_protocol import GREETING, UNARY, ask, channel_to, connected
from tests.transport_http2.unary import Served, handled, served

ANSWER = rpc_pb2.RangeResponse(count=7)


class Begun:
    """Begins every call, and keeps what is to be answered."""

    def __init__(self) -> None:
        self.waiting: list[Later] = []
        self.dropped = 0
        self.came = asyncio.Event()
        self.gone = asyncio.Event()

    def begin(self, _request: Any, _call: Any) -> Later:
        later = Later(self._drop)
        self.waiting.append(later)
        self.came.set()
        return later

    def _drop(self) -> None:
        self.dropped += 1
        self.gone.set()

    async def unary(self, _request: Any, _call: Any) -> bytes:
        raise AssertionError("a task was made")

    async def next(self) -> Later:
        await asyncio.wait_for(self.came.wait(), 5)
        self.came.clear()
        return self.waiting.pop()


def serving(begun: Begun) -> AbstractAsyncContextManager[Served]:
    return served(begun.unary, begun.begin)


async def test_the_answer_comes_when_it_is_there():
    begun = Begun()
    async with serving(begun) as (port, _, metrics, _), channel_to(port) as channel:
        call = channel.unary_unary(UNARY, RANGE.SerializeToString)(RANGE(key=b"a"))
        (await begun.next()).settle(ANSWER)
        assert await call == ANSWER.SerializeToString()
        assert handled(metrics) == {"OK": 1}


async def test_an_answer_that_is_there_already_is_no_different():
    begun = Begun()
    begin = begun.begin

    def settled(request: Any, call: Any) -> Later:
        later = begin(request, call)
        later.settle(ANSWER)
        return later

    begun.begin = settled
    async with serving(begun) as (port, *_), channel_to(port) as channel:
        reply = await channel.unary_unary(UNARY, RANGE.SerializeToString)(RANGE(key=b"a"))
        assert reply == ANSWER.SerializeToString()


@pytest.mark.parametrize(
    ("answer", "code", "text", "logged"),
    [
        (EmptyKey(), "InvalidArgument", "etcdserver: key is not provided", ""),
        (object(), "Internal", "etcdserver: internal error", "AttributeError"),
    ],
    ids=["a refusal", "a bug"],
)
async def test_errors_are_a_status_and_a_bug_is_logged(answer, code, text, logged):
    begun = Begun()
    async with serving(begun) as (port, _, metrics, log), channel_to(port) as channel:
        call = channel.unary_unary(UNARY, RANGE.SerializeToString)(RANGE(key=b"a"))
        (await begun.next()).settle(answer)
        with pytest.raises(AioRpcError) as caught:
            await call
        assert caught.value.details() == text
        assert handled(metrics) == {code: 1}
        assert logged in str(log.lines)
        assert bool(log.lines) == bool(logged)


async def test_nobody_is_told_when_the_client_has_gone():
    begun = Begun()
    async with serving(begun) as (port, _, metrics, _), channel_to(port) as channel:
        call = channel.unary_unary(UNARY, RANGE.SerializeToString)(RANGE(key=b"a"))
        later = await begun.next()
        call.cancel()
        await asyncio.wait_for(begun.gone.wait(), 5)
        later.settle(ANSWER)
        assert handled(metrics) == {"Canceled": 1}


async def test_a_deadline_ends_it():
    begun = Begun()
    async with serving(begun) as (port, _, metrics, _), connected(port) as (reader, writer):
        writer.write(GREETING + ask(b"a", grpc_timeout="50m"))
        async with asyncio.timeout(5):
            await reader.readuntil(b"grpc-status")
        assert begun.dropped == 1
        assert handled(metrics) == {"DeadlineExceeded": 1}


async def test_what_comes_behind_the_request_changes_nothing():
    begun = Begun()
    async with serving(begun) as (port, _, metrics, _), connected(port) as (reader, writer):
        writer.write(GREETING + ask(b"a", flags=0))
        later = await begun.next()
        writer.write(p.raw_frame(p.DATA, p.END_STREAM, 1))
        await writer.drain()
        await asyncio.sleep(0.05)
        assert begun.dropped == 0
        later.settle(ANSWER)
        async with asyncio.timeout(5):
            await reader.readuntil(b"grpc-status")
        assert handled(metrics) == {"OK": 1}


async def test_a_server_that_stops_waits_for_the_answer():
    begun = Begun()
    async with serving(begun) as (port, server, _, _), channel_to(port) as channel:
        call = channel.unary_unary(UNARY, RANGE.SerializeToString)(RANGE(key=b"a"))
        later = await begun.next()
        stopping = asyncio.create_task(server.stop(5))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        later.settle(ANSWER)
        assert await call == ANSWER.SerializeToString()
        await asyncio.wait_for(stopping, 4)


async def test_a_server_that_waited_long_enough_says_so():
    begun = Begun()
    async with serving(begun) as (port, server, _, _), channel_to(port) as channel:
        call = channel.unary_unary(UNARY, RANGE.SerializeToString)(RANGE(key=b"a"))
        await begun.next()
        await server.stop(0.05)
        with pytest.raises(AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "etcdserver: server stopped"
        assert begun.dropped == 1
