"""The next page of a list is read ahead, and is what reading it then would give."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from kvshim.errors import Compacted
from kvshim.mvcc.ranges import RangeResult, execute_range
from kvshim.pb.etcd import rpc_pb2
from kvshim.server import next_pages
from kvshim.server.reader import Reader
from raft.interface import ReplicatedLog
from tests.mvcc.conftest import Driver, driver
from tests.server.cluster import ME, Log

__all__ = ["driver"]

HEADER = b"\x08\x01"
KEYS = 20


class CountingThreads(ThreadPoolExecutor):
    """Reader threads that count what they are asked to do."""

    jobs = 0

    def submit(self, *arguments, **options):
        self.jobs += 1
        return super().submit(*arguments, **options)


@pytest.fixture
def threads() -> Iterator[CountingThreads]:
    with CountingThreads(2) as executor:
        yield executor


@pytest.fixture
async def reader(driver: Driver, threads: CountingThreads) -> Reader:
    log = Log(voters=(ME,))
    log.lead(ME)
    for number in range(KEYS):
        driver.put(b"key%02d" % number, b"first")
    return Reader(driver.store, cast("ReplicatedLog", log), threads, 5.0, log.leadership)


def page(revision: int, start: int) -> rpc_pb2.RangeRequest:
    """Five keys, from one on; those behind the first are asked for as clients do."""
    key = b"key%02d\x00" % (start - 1) if start else b"key00"
    return rpc_pb2.RangeRequest(key=key, range_end=b"kez", limit=5, revision=revision)


async def answer(reader: Reader, request: rpc_pb2.RangeRequest) -> bytes:
    opened = await reader.open_range(request)
    assert isinstance(opened, RangeResult)
    return opened.encode(HEADER)


def expected(driver: Driver, request: rpc_pb2.RangeRequest) -> bytes:
    with driver.store.read() as view:
        return execute_range(view, request).encode(HEADER)


async def test_pages_are_the_same_while_everything_changes(
    driver: Driver, reader: Reader, threads: CountingThreads
):
    """Given a client that pages on, then each page but the first is read before it is asked for."""
    revision = driver.store.revision
    for start in range(0, KEYS, 5):
        request = page(revision, start)
        result = await reader.open_range(request)
        assert isinstance(result, RangeResult)
        assert result.encode(HEADER) == expected(driver, request)
        assert result.revision == driver.store.revision
        driver.delete(b"key%02d" % (start + 7))
        driver.put(b"key%02d" % (start + 6), b"second")
    # The first was read when it was asked for, and with each one, but the last, the next.
    assert threads.jobs == KEYS // 5


@pytest.mark.parametrize(
    "options",
    [
        {"keys_only": True},
        {"count_only": True},
        {"sort_order": rpc_pb2.RangeRequest.DESCEND},
        {"min_mod_revision": 12},
        {"limit": 4},
        {"range_end": b"key17"},
    ],
)
async def test_another_request_from_the_same_key_has_its_own_answer(
    driver: Driver, reader: Reader, options: dict[str, object]
):
    revision = driver.store.revision
    await answer(reader, page(revision, 0))
    request = page(revision, 5)
    request.MergeFrom(rpc_pb2.RangeRequest(**options))
    assert await answer(reader, request) == expected(driver, request)


async def test_a_page_of_what_was_compacted_since_is_refused(driver: Driver, reader: Reader):
    revision = driver.store.revision
    await answer(reader, page(revision, 0))
    driver.put(b"key00", b"second")
    driver.compact(revision + 1)
    request = page(revision, 5)
    with pytest.raises(Compacted):
        await reader.open_range(request)


async def test_a_first_page_and_one_that_nobody_goes_on_from_cost_nothing_more(
    driver: Driver, reader: Reader, threads: CountingThreads
):
    await answer(reader, page(0, 0))
    await answer(reader, page(driver.store.revision, KEYS - 5))
    assert threads.jobs == 2


async def test_no_more_pages_wait_than_allowed(
    driver: Driver,
    reader: Reader,
    threads: CountingThreads,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(next_pages, "KEPT_SECONDS", 3600.0)
    revision, abandoned = driver.store.revision, next_pages.PAGES_MAX + 3
    for number in range(abandoned):
        await answer(reader, page(revision - number, 0))
    assert threads.jobs == abandoned + next_pages.PAGES_MAX


async def test_a_page_that_nobody_asks_for_makes_room_for_others(
    driver: Driver,
    reader: Reader,
    threads: CountingThreads,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(next_pages, "KEPT_SECONDS", 0.0)
    for number in range(next_pages.PAGES_MAX + 1):
        await answer(reader, page(driver.store.revision - number, 0))
        await asyncio.sleep(0.001)  # timers run in order: this one after the page's
    assert threads.jobs == 2 * (next_pages.PAGES_MAX + 1)
