"""Long answers in slices carry the same bytes, whatever happens to the store meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from kvshim.errors import Code, Compacted, FutureRevision, ResponseTooLarge, StorageError
from kvshim.mvcc import slices, view
from kvshim.mvcc.ranges import RangeResult, execute_range
from kvshim.mvcc.slices import SlicePlan, open_range
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import KeyRange, LeaseID
from tests.mvcc.conftest import Driver

HEADER = rpc_pb2.ResponseHeader(cluster_id=7, revision=9).SerializeToString()
WHOLE = 64 << 10


def fill(driver: Driver, keys: int, mark: bytes) -> None:
    with driver.store.write() as batch:
        for number in range(keys):
            txn = batch.begin()
            size = 20_000 if number % 17 == 0 else 900
            txn.put(b"key%05d" % number, mark * size, LeaseID(number % 3))
            txn.finish()


def whole(driver: Driver, **fields: object) -> bytes:
    with driver.store.read() as snapshot:
        return execute_range(snapshot, rpc_pb2.RangeRequest(**fields)).encode(HEADER)


def plan(driver: Driver, **fields: object) -> SlicePlan:
    planned = open_range(driver.store, rpc_pb2.RangeRequest(**fields), WHOLE)
    assert isinstance(planned, SlicePlan)
    return planned


def collect(planned: SlicePlan, between: Callable[[int], None] = lambda number: None) -> bytes:
    pieces = [planned.opening(HEADER)]
    for number in itertools.count():
        piece = planned.next_slice()
        if not piece:
            break
        pieces.append(piece)
        between(number)
    planned.close()
    return b"".join([*pieces, planned.closing()])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "CHUNK_BYTES", 32 << 10)
    monkeypatch.setattr(view, "FIRST_PART_ROWS", 16)


@pytest.mark.parametrize("limit", [0, 150, 299, 300, 301])
@pytest.mark.parametrize("age", ["head", "old"])
def test_slices_are_the_bytes_of_the_whole_answer(driver: Driver, limit: int, age: str) -> None:
    fill(driver, 300, b"a")
    revision = 0
    if age == "old":
        revision = driver.store.revision
        fill(driver, 200, b"b")
    fields = {"key": b"key", "range_end": b"kez", "limit": limit, "revision": revision}
    expected = whole(driver, **fields)
    planned = plan(driver, **fields)
    assert planned.length(HEADER) == len(expected)
    assert collect(planned) == expected


@pytest.mark.parametrize("age", ["head", "old"])
def test_writes_and_compaction_between_slices_change_nothing(driver: Driver, age: str) -> None:
    fill(driver, 300, b"a")
    fields = {"key": b"key", "range_end": b"kez", "revision": driver.store.revision}
    if age == "old":
        fill(driver, 300, b"b")
    expected = whole(driver, **fields)
    planned = plan(driver, **fields)
    slices_taken = []

    def disturb(number: int) -> None:
        slices_taken.append(number)
        fill(driver, 300, b"%d" % (number % 10))
        with driver.store.write() as batch:
            txn = batch.begin()
            txn.delete_range(KeyRange(b"key00%d" % (number % 3), b"key00%d" % (number % 3 + 1)))
            txn.put(b"key00000new", b"", LeaseID(0))
            txn.finish()
            batch.compact(batch.revision)
        while driver.store.between_batches():
            pass

    assert collect(planned, disturb) == expected
    assert len(slices_taken) > 5
    while driver.store.between_batches():
        pass
    assert driver.store.physically_compacted == driver.store.revision


def test_an_answer_whose_revision_is_gone_is_broken_off(driver: Driver) -> None:
    fill(driver, 300, b"a")
    planned = plan(driver, key=b"key", range_end=b"kez")
    planned.next_slice()
    planned.close()  # As if its time had passed: the pin is gone.
    fill(driver, 300, b"b")
    with driver.store.write() as batch:
        batch.compact(batch.revision)
    while driver.store.between_batches():
        pass

    def drain() -> None:
        while planned.next_slice():
            pass

    with pytest.raises(Compacted):
        drain()


def test_short_answers_and_other_shapes_are_not_sliced(driver: Driver) -> None:
    fill(driver, 300, b"a")
    short = open_range(
        driver.store, rpc_pb2.RangeRequest(key=b"key", range_end=b"kez", limit=3), WHOLE
    )
    assert isinstance(short, RangeResult)
    assert (short.returned, short.count, short.more) == (3, 300, True)
    assert short.encode(HEADER) == whole(driver, key=b"key", range_end=b"kez", limit=3)
    for fields in (
        {"keys_only": True},
        {"count_only": True},
        {"sort_order": rpc_pb2.RangeRequest.DESCEND},
        {"max_mod_revision": 10},
    ):
        request = rpc_pb2.RangeRequest(key=b"key", range_end=b"kez", **fields)
        opened = open_range(driver.store, request, WHOLE)
        assert isinstance(opened, RangeResult)
        assert not isinstance(opened, SlicePlan)
    with pytest.raises(FutureRevision):
        open_range(driver.store, rpc_pb2.RangeRequest(key=b"key", revision=10_000))


def test_the_page_that_continues_a_sliced_one_does_not_count(driver: Driver) -> None:
    fill(driver, 300, b"a")
    planned = plan(driver, key=b"key", range_end=b"kez", limit=150)
    result = planned.result
    assert (result.returned, result.count, result.more) == (150, 300, True)
    collect(planned)
    hits = driver.store.counts.hits_total
    rest = rpc_pb2.RangeRequest(
        key=b"key00149\x00", range_end=b"kez", limit=10, revision=planned.at
    )
    with driver.store.read() as snapshot:
        assert execute_range(snapshot, rest).count == 150
    assert driver.store.counts.hits_total == hits + 1


def test_an_answer_too_long_for_a_frame_is_refused_before_its_first_byte(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(driver, 300, b"a")
    monkeypatch.setattr(slices, "MESSAGE_BYTES_MAX", 100_000)
    planned = plan(driver, key=b"key", range_end=b"kez")
    with pytest.raises(ResponseTooLarge) as refused:
        planned.length(HEADER)
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    planned.close()


def test_an_answer_whose_length_was_told_wrong_is_broken_off(driver: Driver) -> None:
    """Given a damaged size, then no client waits for bytes that never come."""
    fill(driver, 300, b"a")
    driver.store.backend.writer.run("UPDATE kv SET size = size + 1 WHERE key = ?", (b"key00200",))
    with pytest.raises(StorageError, match="changed while it was read"):
        collect(plan(driver, key=b"key", range_end=b"kez"))
