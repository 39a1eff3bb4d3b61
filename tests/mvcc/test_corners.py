"""The corners of etcd's store that are commonly got wrong, each as a story of its own."""

from __future__ import annotations

import pytest

from kvshim.errors import FutureRevision
from kvshim.mvcc import view as view_module
from kvshim.mvcc.ranges import execute_range
from kvshim.mvcc.records import LeaseRecord
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import EventKind, KeyRange, LeaseID
from tests.model.history import COMPACTED, FUTURE
from tests.mvcc.conftest import Driver, framed

Request = rpc_pb2.RangeRequest


def test_an_empty_store_is_at_revision_1(driver: Driver) -> None:
    assert driver.store.revision == 1
    assert driver.range(key=b"a").header.revision == 1


def test_deleting_nothing_makes_no_revision(driver: Driver) -> None:
    assert driver.delete(b"a", b"z") == []
    assert driver.store.revision == 1


def test_two_changes_of_a_key_at_one_revision(driver: Driver) -> None:
    """Both events see the version before the transaction; the response sees the put inside it."""
    driver.put(b"k", b"old")
    put, delete = driver.txn(("put", b"k", b"new", 0), ("delete", b"k", b""))
    assert (put.kind, put.sub, framed(put.prev).value) == (EventKind.PUT, 0, b"old")
    assert (delete.kind, delete.sub, framed(delete.prev).value) == (EventKind.DELETE, 1, b"old")
    assert put.revision == delete.revision == 3
    driver.history(2, b"k", b"")


def test_a_key_that_came_and_went_at_one_revision_has_no_previous_version(driver: Driver) -> None:
    put, delete = driver.txn(("put", b"k", b"v", 0), ("delete", b"k", b""))
    assert put.prev is None
    assert put.create
    assert delete.prev is None
    driver.history(1, b"k", b"")


def test_deleted_created_and_deleted_again_at_one_revision(driver: Driver) -> None:
    driver.put(b"k", b"old")
    first, create, last = driver.txn(
        ("delete", b"k", b""), ("put", b"k", b"new", 0), ("delete", b"k", b"")
    )
    assert framed(first.prev).value == framed(last.prev).value == b"old"
    assert create.prev is None
    driver.history(1, b"k", b"")
    driver.history(1, b"\x00", b"\x00")


def test_a_compaction_at_a_deletion_leaves_that_event_without_its_previous_version(
    driver: Driver,
) -> None:
    driver.put(b"k", b"v")
    driver.delete(b"k")
    driver.put(b"other")
    driver.compact(3)
    for _ in range(2):
        (event,) = driver.history(3, b"k", b"")
        assert event.kind is EventKind.DELETE
        assert event.prev is None
        driver.upkeep()
    driver.compact(4)
    driver.upkeep()
    with driver.store.read() as view:
        assert view.history(KeyRange.of(b"k", b""), 4, 4, 1000) == ([], 5)
    rows = driver.store.backend.writer.all("SELECT key FROM history")
    assert rows == [(b"other",)]
    assert driver.store.backend.writer.all("SELECT * FROM ended") == []


def test_history_never_splits_a_revision(driver: Driver) -> None:
    driver.txn(("put", b"a", b"", 0), ("put", b"b", b"", 0), ("put", b"c", b"", 0))
    driver.put(b"d")
    with driver.store.read() as view:
        events, following = view.history(KeyRange(b"a", None), 1, 3, 0)
        assert ([event.key for event in events], following) == ([b"a", b"b", b"c"], 3)
        assert view.history(KeyRange(b"a", None), 4, 3, 0) == ([], 4)


def test_history_looks_at_a_bounded_number_of_revisions(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "HISTORY_REVISIONS_MAX", 2)
    for key in (b"a", b"b", b"c"):
        driver.put(key)
    with driver.store.read() as view:
        assert view.history(KeyRange.of(b"c", b"d"), 1, 4, 100) == ([], 3)
    driver.history(1, b"a", b"z")


def test_compaction_at_a_revision_that_changed_a_key_twice(driver: Driver) -> None:
    driver.put(b"k", b"old")
    driver.txn(("put", b"k", b"new", 0), ("delete", b"k", b""))
    driver.compact(3)
    (before,) = driver.history(3, b"k", b"")
    driver.upkeep()
    (after,) = driver.history(3, b"k", b"")
    assert before.encoded(True) == after.encoded(True)


def test_compact_0_succeeds_once(driver: Driver) -> None:
    assert driver.compact(0) is None
    assert driver.compact(0) == COMPACTED
    driver.upkeep()
    driver.reopen()
    assert driver.compact(0) == COMPACTED
    assert driver.compact(2) == FUTURE


def test_a_read_at_the_compact_revision_works_and_one_below_does_not(driver: Driver) -> None:
    for value in (b"1", b"2", b"3"):
        driver.put(b"k", value)
    driver.compact(3)
    assert driver.range(key=b"k", revision=2) == COMPACTED
    driver.upkeep()
    assert driver.range(key=b"k", revision=3).kvs[0].value == b"2"
    assert driver.range(key=b"k", revision=5) == FUTURE


def test_a_range_inside_a_transaction_sees_what_it_wrote(driver: Driver) -> None:
    driver.put(b"a", b"1")
    with driver.store.write() as batch:
        txn = batch.begin()
        with pytest.raises(FutureRevision):
            execute_range(txn, Request(key=b"a", revision=3))
        txn.put(b"b", b"2", LeaseID(0))
        result = execute_range(txn, Request(key=b"a", range_end=b"z")).message()
        assert [kv.key for kv in result.kvs] == [b"a", b"b"]
        assert result.header.revision == 3
        old = execute_range(txn, Request(key=b"a", range_end=b"z", revision=2)).message()
        assert [kv.key for kv in old.kvs] == [b"a"]
        assert len(txn.finish()) == 1
        assert batch.revision == 3
        assert driver.store.revision == 2
    assert driver.store.revision == 3


def test_a_failed_batch_changes_nothing(driver: Driver) -> None:
    driver.put(b"a", b"1")

    def fail() -> None:
        with driver.store.write() as batch:
            txn = batch.begin()
            txn.put(b"a", b"2", LeaseID(0))
            txn.finish()
            batch.set_applied(9, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (driver.store.revision, driver.store.applied_index) == (2, 0)
    assert driver.range(key=b"a").kvs[0].value == b"1"
    driver.put(b"a", b"3")


def test_sorting_by_a_target_without_an_order_takes_the_first_keys(driver: Driver) -> None:
    """The first limit+1 keys are taken, then sorted, then cut: the largest value is dropped."""
    for key, value in ((b"a", b"3"), (b"b", b"1"), (b"c", b"0")):
        driver.put(key, value)
    answer = driver.range(key=b"a", range_end=b"z", sort_target=Request.VALUE, limit=1)
    assert [kv.key for kv in answer.kvs] == [b"b"]
    assert answer.more
    assert answer.count == 3


def test_more_is_computed_after_the_bounds_and_count_before(driver: Driver) -> None:
    for key in (b"a", b"b", b"c"):
        driver.put(key)
    answer = driver.range(key=b"a", range_end=b"z", max_mod_revision=2, limit=1)
    assert (len(answer.kvs), answer.more, answer.count) == (1, False, 3)


def test_the_limit_counts_what_the_bounds_leave(driver: Driver) -> None:
    for key in (b"a", b"b", b"c", b"d"):
        driver.put(key)
    answer = driver.range(key=b"a", range_end=b"z", min_mod_revision=4, limit=1)
    assert ([kv.key for kv in answer.kvs], answer.more, answer.count) == ([b"c"], True, 4)


def test_keys_only_leaves_the_lease_out_unless_sorted_by_value(driver: Driver) -> None:
    driver.put(b"a", b"v", lease=7)
    assert driver.range(key=b"a", keys_only=True).kvs[0].lease == 0
    assert driver.range(key=b"a", keys_only=True, sort_target=Request.VALUE).kvs[0].lease == 7


def test_putting_a_key_again_detaches_it_from_its_lease(driver: Driver) -> None:
    driver.put(b"b", b"", lease=7)
    driver.put(b"a", b"", lease=7)
    with driver.store.read() as view:
        assert view.lease_keys(LeaseID(7)) == [b"a", b"b"]
    driver.put(b"a", b"")
    driver.delete(b"b")
    with driver.store.read() as view:
        assert view.lease_keys(LeaseID(7)) == []


def test_leases_alarms_and_meta_are_stored_with_their_batch(driver: Driver) -> None:
    member = 2**64 - 5
    with driver.store.write() as batch:
        batch.lease_put(LeaseRecord(LeaseID(-3), 60, 0))
        batch.lease_put(LeaseRecord(LeaseID(5), 60, 0))
        batch.lease_put(LeaseRecord(LeaseID(5), 60, 30))
        batch.alarm_put(member, 1)
        batch.alarm_put(3, 2)
        batch.meta_put("name", b"\x00value")
        batch.set_applied(17, 2)
        assert batch.alarms() == [(3, 2), (member, 1)]
    driver.reopen()
    assert (driver.store.applied_index, driver.store.applied_term) == (17, 2)
    assert driver.store.revision == 1
    with driver.store.write() as batch:
        batch.alarm_delete(member, 1)
        batch.lease_delete(LeaseID(-3))
    with driver.store.read() as view:
        assert view.leases() == [LeaseRecord(LeaseID(5), 60, 30)]
        assert view.lease(LeaseID(-3)) is None
        assert view.alarms() == [(3, 2)]
        assert view.meta("name") == b"\x00value"
        assert view.meta("other") is None


def test_one_read_is_one_snapshot(driver: Driver) -> None:
    driver.put(b"a", b"1")
    with (
        driver.store.read() as view,
        driver.store.read_short() as short,
        driver.store.read_short() as nested,
    ):
        driver.put(b"a", b"2")
        driver.compact(3)
        for snapshot in (view, short, nested):
            assert (snapshot.revision, snapshot.compact_revision) == (2, -1)
            assert snapshot.get(b"a").value == b"1"
            answer = execute_range(snapshot, Request(key=b"a", range_end=b"b")).message()
            assert answer.header.revision == 2
            assert answer.kvs[0].value == b"1"


def test_a_person_can_read_the_live_keys(driver: Driver) -> None:
    driver.put(b"a", b"1")
    driver.put(b"a", b"2", lease=7)
    rows = driver.store.backend.writer.all("SELECT * FROM live")
    assert rows == [(b"a", 2, 3, 2, 7, b"2")]
    rows = driver.store.backend.writer.all("SELECT revision, sub, value FROM history")
    assert rows == [(2, 0, b"1"), (3, 0, b"2")]
