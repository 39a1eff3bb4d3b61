"""Deadlines that come together share a timer; a call that is over leaves nothing behind."""

import asyncio
import gc
import weakref
from typing import cast

import pytest

from kvshim.transport.http2.call import Driver, Http2Call
from kvshim.transport.http2.deadlines import SLOT_SECONDS, Deadlines
from kvshim.transport.http2.stream import Stream

NOISE_SECONDS = 0.5


def new_call() -> Http2Call:
    loop = asyncio.get_running_loop()
    return Http2Call(cast("Driver", None), cast("Stream", None), None, loop)


async def test_a_call_ends_at_its_deadline_or_a_slot_later_never_before():
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    ended: dict[Http2Call, float] = {}
    wanted: dict[Http2Call, float] = {}
    everyone = asyncio.Event()

    def expire(call: Http2Call) -> None:
        ended[call] = loop.time()
        if len(ended) == len(wanted):
            everyone.set()

    for after_ms in (0, 1, 5, 19, 20, 21, 60, 100):
        call = new_call()
        wanted[call] = loop.time() + after_ms / 1000
        deadlines.watch(call, wanted[call], expire)
    async with asyncio.timeout(5):
        await everyone.wait()
    for call, deadline in wanted.items():
        assert 0 <= ended[call] - deadline < SLOT_SECONDS + NOISE_SECONDS


@pytest.mark.parametrize("after_seconds", [0.01, 2 * SLOT_SECONDS])
async def test_a_call_that_is_over_never_expires_and_others_of_its_slot_do(after_seconds: float):
    loop = asyncio.get_running_loop()
    deadlines, ended = Deadlines(loop), asyncio.Queue[Http2Call]()
    deadline = loop.time() + 5 * SLOT_SECONDS
    over, late = new_call(), new_call()
    for call in (over, late):
        deadlines.watch(call, deadline, ended.put_nowait)
    await asyncio.sleep(after_seconds)
    over.is_over = True
    deadlines.forget(over)
    assert await asyncio.wait_for(ended.get(), 5) is late
    await asyncio.sleep(2 * SLOT_SECONDS)
    assert ended.empty()
    deadlines.forget(late)  # as every call is when its end is told


@pytest.mark.parametrize("has_waited", [False, True])
async def test_a_call_that_is_over_is_held_by_nothing(has_waited: bool):
    """An hour's deadline would keep it, and its request, that long; a slot's time is no matter."""
    deadlines = Deadlines(asyncio.get_running_loop())
    call = new_call()

    class Expiry:
        def __call__(self, call: Http2Call) -> None: ...

    expire = Expiry()
    held = weakref.ref(expire)
    deadlines.watch(call, 3600 + asyncio.get_running_loop().time(), expire)
    del expire
    if has_waited:
        await asyncio.sleep(2 * SLOT_SECONDS)
    assert held() is not None
    call.is_over = True
    deadlines.forget(call)
    await asyncio.sleep(2 * SLOT_SECONDS)
    gc.collect()
    assert held() is None
