"""Unary calls that are answered within the turn that their request came in, without a task."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError

from kvshim.errors import EmptyKey
from tests.transport.serving import RANGE
from tests.transport_http2 import peer as p
from tests.transport_http2.test_protocol import GREETING, UNARY, ask, channel_to, connected
from tests.transport_http2.unary import Served, handled, served

SLOW, QUICK = b"\x0a\x00", b"\x0a\x02\x08\x07"


class Asked:
    """Answers the key "now" at once, and others when asked again."""

    def __init__(self) -> None:
        self.waited = 0

    def at_once(self, request: Any, _call: Any) -> bytes | None:
        match request.key:
            case b"now":
                return QUICK
            case b"empty":
                raise EmptyKey
            case b"bug":
                raise ValueError("secret")
            case _:
                return None

    async def unary(self, _request: Any, _call: Any) -> bytes:
        self.waited += 1
        await asyncio.sleep(0)
        return SLOW


def serving(asked: Asked) -> AbstractAsyncContextManager[Served]:
    return served(asked.unary, asked.at_once)


async def test_what_takes_no_waiting_is_answered_and_the_rest_waits():
    asked = Asked()
    async with serving(asked) as (port, *_), channel_to(port) as channel:
        call = channel.unary_unary(UNARY, RANGE.SerializeToString)
        keys = (b"now", b"later", b"now", b"later")
        assert [await call(RANGE(key=key)) for key in keys] == [QUICK, SLOW, QUICK, SLOW]
        assert asked.waited == 2


@pytest.mark.parametrize(
    ("key", "code", "text"),
    [
        (b"empty", grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: key is not provided"),
        (b"bug", grpc.StatusCode.INTERNAL, "etcdserver: internal error"),
    ],
)
async def test_errors_are_a_status_and_a_bug_is_logged(key, code, text):
    async with serving(Asked()) as (port, _, _, log), channel_to(port) as channel:
        with pytest.raises(AioRpcError) as caught:
            await channel.unary_unary(UNARY, RANGE.SerializeToString)(RANGE(key=key))
        assert (caught.value.code(), caught.value.details()) == (code, text)
        assert ("secret" in str(log.lines)) == (key == b"bug")


async def test_a_client_that_ends_its_side_later_is_answered_and_counted_once():
    async with serving(Asked()) as (port, _, metrics, _), connected(port) as (reader, writer):
        writer.write(GREETING + ask(b"now", flags=0) + p.raw_frame(p.DATA, p.END_STREAM, 1))
        writer.write(ask(b"now", stream_id=3))
        async with asyncio.timeout(5):
            heard = await reader.readuntil(b"grpc-status")
            heard += await reader.readuntil(b"grpc-status") if heard.count(QUICK) < 2 else b""
        assert heard.count(QUICK) == 2
        assert handled(metrics) == {"OK": 2}
