"""Pieces come in order, however the threads run; a client that is slow is not read for further."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvshim.errors import Compacted
from kvshim.server.read_ahead import PIECES_AHEAD, ReadAhead


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


class Source:
    """Pieces 1 to `last`, then an empty one; fails after piece `fails_after`."""

    def __init__(self, last: int, fails_after: int | None = None, delay: float = 0.0) -> None:
        self.read_total = 0
        self.at_once = 0
        self.at_once_max = 0
        self._last = last
        self._fails_after = fails_after
        self._delay = delay
        self._lock = threading.Lock()

    def read(self) -> bytes:
        with self._lock:
            self.at_once += 1
            self.at_once_max = max(self.at_once, self.at_once_max)
        time.sleep(self._delay * random.random())
        try:
            if self.read_total == self._fails_after:
                raise Compacted
            self.read_total += 1
            return b"%d" % self.read_total if self.read_total <= self._last else b""
        finally:
            with self._lock:
                self.at_once -= 1


async def collect(ahead: ReadAhead[bytes], delay: float = 0.0) -> list[bytes]:
    pieces = []
    while piece := await asyncio.wait_for(ahead.next(), 5):
        pieces.append(piece)
        if delay:
            await asyncio.sleep(delay * random.random())
    return pieces


@pytest.mark.parametrize(("reading", "taking"), [(0, 0), (0.002, 0), (0, 0.002), (0.002, 0.002)])
async def test_pieces_come_in_order_and_one_at_a_time(
    threads: ThreadPoolExecutor, reading: float, taking: float
):
    source = Source(200, delay=reading)
    pieces = await collect(ReadAhead(threads, source.read), taking)
    assert pieces == [b"%d" % number for number in range(1, 201)]
    assert source.at_once_max == 1


async def test_a_client_that_takes_nothing_is_read_for_no_further(threads: ThreadPoolExecutor):
    source = Source(100)
    ahead = ReadAhead(threads, source.read)
    for taken in range(5):
        await asyncio.sleep(0.05)
        assert source.read_total == taken + PIECES_AHEAD
        await ahead.next()


async def test_what_was_read_comes_before_the_failure(threads: ThreadPoolExecutor):
    ahead = ReadAhead(threads, Source(100, fails_after=2).read)
    await asyncio.sleep(0.05)
    assert [await ahead.next(), await ahead.next()] == [b"1", b"2"]
    with pytest.raises(Compacted):
        await asyncio.wait_for(ahead.next(), 5)


async def test_a_short_read_waits_for_one_piece_of_a_long_list():
    source = Source(1000, delay=0.002)
    with ThreadPoolExecutor(1) as executor:
        ahead = ReadAhead(executor, source.read)
        reading = asyncio.create_task(collect(ahead))
        await asyncio.sleep(0.02)
        before = source.read_total
        during = await asyncio.wrap_future(executor.submit(lambda: source.read_total))
        assert during <= before + 2
        assert len(await reading) == 1000
