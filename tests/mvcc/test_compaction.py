"""Physical compaction: in slices, resumed after a crash, sparing what responses still read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kvshim.errors import StorageError
from kvshim.mvcc import compaction
from kvshim.mvcc.pins import PIN_SECONDS_MAX, Pins
from kvshim.types import KeyRange, LeaseID, Revision
from tests.mvcc.conftest import Driver

EVERYTHING = KeyRange(b"\x00", None)


def rows(driver: Driver, table: str) -> int:
    (count,) = driver.store.backend.writer.one(f"SELECT count(*) FROM {table}")
    return count


def fill(driver: Driver, keys: int, rounds: int, size: int = 10) -> None:
    with driver.store.write() as batch:
        for number in range(keys * rounds):
            txn = batch.begin()
            txn.put(b"key%05d" % (number % keys), b"v" * size, LeaseID(0))
            txn.finish()


def compact(driver: Driver, revision: int) -> None:
    with driver.store.write() as batch:
        batch.compact(revision)


def begin_walk(driver: Driver) -> None:
    """Upkeep up to the first slice that deletes something: hashing comes before it."""
    before = rows(driver, "history")
    while rows(driver, "history") == before:
        assert driver.store.between_batches()


def test_only_what_is_readable_stays(driver: Driver) -> None:
    fill(driver, keys=10, rounds=5)
    compact(driver, driver.store.revision)
    finished: list[int] = []
    driver.store.on_compacted = finished.append
    driver.upkeep()
    assert rows(driver, "history") == 10
    assert finished == [driver.store.revision]
    assert driver.store.physically_compacted == driver.store.revision


def test_the_work_comes_in_short_slices_and_goes_on_after_a_restart(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SLICE_SECONDS", 0.0005)
    fill(driver, keys=200, rounds=40)
    revision = driver.store.revision
    compact(driver, revision)
    begin_walk(driver)
    longest = 0.0
    for _ in range(5):
        started = time.thread_time()
        assert driver.store.between_batches()
        longest = max(longest, time.thread_time() - started)
    assert longest < 0.05
    left = rows(driver, "history")
    assert 200 < left < 8000
    driver.close()
    driver.store = reopened(driver.path)
    assert rows(driver, "history") == left
    assert driver.store.physically_compacted == -1
    assert driver.store.between_batches()
    assert rows(driver, "history") < left
    driver.upkeep()
    assert rows(driver, "history") == 200
    assert driver.store.physically_compacted == revision


def reopened(path: Path):
    from kvshim.backend.backend import Backend
    from kvshim.mvcc.store import Store

    return Store(Backend.open(path))


def test_a_second_compaction_while_the_first_is_under_way(driver: Driver) -> None:
    finished: list[int] = []
    driver.store.on_compacted = finished.append
    fill(driver, keys=200, rounds=20)
    first = driver.store.revision
    compact(driver, first)
    driver.store.between_batches()
    with driver.store.write() as batch:
        txn = batch.begin()
        txn.delete_range(KeyRange(b"key00000", b"key00100"))
        txn.finish()
        second = batch.revision
        txn = batch.begin()
        txn.put(b"z", b"", LeaseID(0))
        txn.finish()
        batch.compact(batch.revision)
    driver.upkeep()
    assert finished == [first, second + 1]
    assert rows(driver, "history") == 101
    assert rows(driver, "ended") == 0


def test_a_pinned_revision_stays_whole_until_it_is_released(driver: Driver) -> None:
    fill(driver, keys=10, rounds=3)
    woken: list[bool] = []
    driver.store.on_work = lambda: woken.append(True)
    pinned = Revision(21)
    pin = driver.store.pins.pin(pinned)
    compact(driver, driver.store.revision)
    driver.upkeep()
    with driver.store.read() as view:
        assert view.is_intact(pinned)
        assert not view.is_intact(Revision(20))
        assert [kv.mod_revision for kv in view.versions(EVERYTHING, pinned, -1)] == [*range(12, 22)]
    assert driver.store.physically_compacted == -1
    assert not woken
    driver.store.pins.release(pin)
    assert woken == [True]
    driver.upkeep()
    assert driver.store.physically_compacted == driver.store.revision
    with driver.store.read() as view:
        assert not view.is_intact(pinned)
        assert view.is_intact(driver.store.revision)


def test_what_was_compacted_is_not_called_intact_while_the_next_walk_begins(
    driver: Driver,
) -> None:
    """The walk goes back to the last finished revision: that must not look like an earlier one."""
    fill(driver, keys=10, rounds=2)
    compact(driver, 15)
    driver.upkeep()
    fill(driver, keys=200, rounds=20)
    compact(driver, driver.store.revision)
    begin_walk(driver)
    with driver.store.read() as view:
        assert not view.is_intact(Revision(14))


def test_a_pin_holds_for_a_limited_time() -> None:
    now = 0.0
    pins = Pins(lambda: now)
    woken: list[bool] = []
    pins.on_release = lambda: woken.append(True)
    pins.pin(Revision(7))
    pins.pin(Revision(5))
    assert pins.oldest() == 5
    now = PIN_SECONDS_MAX - 1
    pins.expire()
    assert pins.oldest() == 5
    now = PIN_SECONDS_MAX
    assert pins.oldest() is None
    pins.expire()
    assert woken == [True, True]


def test_free_pages_go_back_to_the_disk(driver: Driver) -> None:
    fill(driver, keys=3000, rounds=2, size=2000)
    before = driver.store.backend.sizes()
    with driver.store.write() as batch:
        txn = batch.begin()
        txn.delete_range(KeyRange(b"key00100", None))
        txn.finish()
        txn = batch.begin()
        txn.put(b"z", b"", LeaseID(0))
        txn.finish()
        batch.compact(batch.revision)
    driver.upkeep()
    after = driver.store.backend.sizes()
    assert after.db_bytes < before.db_bytes / 4
    assert after.db_bytes_in_use <= after.db_bytes
    assert after.db_bytes == after.db_bytes_in_use + after.free_bytes
    driver.store.backend.checkpointer.truncate()
    assert driver.path.stat().st_size == after.db_bytes


def test_a_full_disk_is_one_sentence_and_changes_nothing(driver: Driver) -> None:
    fill(driver, keys=10, rounds=1)
    revision = driver.store.revision
    pages = driver.store.backend.writer.db.pragma("page_count")
    driver.store.backend.writer.db.pragma("max_page_count", pages)
    with pytest.raises(StorageError, match="the disk that holds the store is full"):
        fill(driver, keys=100, rounds=1, size=4000)
    assert driver.store.revision == revision
    with driver.store.read() as view:
        assert view.count(EVERYTHING) == 10
    driver.store.backend.writer.db.pragma("max_page_count", pages + 100)
    fill(driver, keys=1, rounds=1)
    assert driver.store.revision == revision + 1


def test_a_slice_ends_by_the_clock(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SLICE_SECONDS", 0.0)
    fill(driver, keys=10, rounds=5)
    compact(driver, driver.store.revision)
    begin_walk(driver)
    assert rows(driver, "history") == 50 - (32 - 10)
    driver.upkeep()
    assert rows(driver, "history") == 10
