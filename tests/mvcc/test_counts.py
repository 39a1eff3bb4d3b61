"""A list in pages counts what is behind them once, and says the right number on every page."""

from __future__ import annotations

import pytest

from kvshim.mvcc.counts import CountCache
from kvshim.mvcc.ranges import execute_range
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import KeyRange, LeaseID, Revision
from tests.mvcc.conftest import Driver


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[KeyRange]:
    """Every count that a view really makes."""
    made: list[KeyRange] = []
    count = ReadView.count

    def counting(view: ReadView, keys: KeyRange, at: Revision | None = None) -> int:
        made.append(keys)
        return count(view, keys, at)

    monkeypatch.setattr(ReadView, "count", counting)
    return made


def pages(driver: Driver, limit: int, disturb) -> list[rpc_pb2.RangeResponse]:
    answers, key, revision = [], b"a", 0
    while True:
        request = rpc_pb2.RangeRequest(key=key, range_end=b"z", limit=limit, revision=revision)
        with driver.store.read() as view:
            answers.append(execute_range(view, request).message())
        revision = revision or answers[-1].header.revision
        if not answers[-1].more:
            return answers
        key = answers[-1].kvs[-1].key + b"\x00"
        disturb(len(answers))


def test_a_paged_list_counts_once_even_while_others_write(
    driver: Driver, counted: list[KeyRange]
) -> None:
    with driver.store.write() as batch:
        txn = batch.begin()
        for number in range(100):
            txn.put(b"b%03d" % number, b"v", LeaseID(0))
        txn.finish()

    def disturb(page: int) -> None:
        with driver.store.write() as batch:
            txn = batch.begin()
            txn.put(b"c%03d" % page, b"v", LeaseID(0))
            txn.delete_range(KeyRange.of(b"b%03d" % (100 - page), b""))
            txn.finish()

    answers = pages(driver, 7, disturb)
    assert [answer.count for answer in answers] == list(range(100, 0, -7))
    assert sum(len(answer.kvs) for answer in answers) == 100
    assert len(counted) == 1


def test_a_range_inside_a_transaction_leaves_nothing_in_the_cache(driver: Driver) -> None:
    driver.put(b"a")

    def fail() -> None:
        with driver.store.write() as batch:
            txn = batch.begin()
            for key in (b"b", b"c", b"d"):
                txn.put(key, b"", LeaseID(0))
            request = rpc_pb2.RangeRequest(key=b"a", range_end=b"z", limit=1)
            assert execute_range(txn, request).count == 4
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    driver.put(b"e")
    assert driver.range(key=b"a", range_end=b"z", limit=1).count == 2


def test_the_cache_is_bounded_and_forgets_what_was_not_used() -> None:
    cache = CountCache(entries_max=2)
    ranges = [KeyRange(bytes([number]), None) for number in range(3)]
    cache.put(ranges[0], Revision(1), 10)
    cache.put(ranges[1], Revision(1), 11)
    assert cache.get(ranges[0], Revision(1)) == 10
    cache.put(ranges[2], Revision(1), 12)
    assert cache.get(ranges[1], Revision(1)) is None
    assert cache.get(ranges[0], Revision(1)) == 10
    assert cache.get(ranges[0], Revision(2)) is None
