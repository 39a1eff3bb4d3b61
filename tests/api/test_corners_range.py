"""The corners of Range and Compact that are commonly got wrong, one test for each."""

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api import ops
from tests.api.errors import COMPACTED, FUTURE_REVISION, refused
from tests.api.ops import keys, values
from tests.support.grpc_client import ALL, prefix_end

Range = pb.RangeRequest

# --- Range


def test_the_header_has_the_current_revision_not_the_one_read(etcd, prefix):
    old = etcd.put(prefix).header.revision
    current = etcd.put(prefix).header.revision
    assert etcd.range(prefix, revision=old).header.revision == current


def test_count_ignores_limit_and_filters_and_more_comes_after_the_filters(etcd, prefix):
    base = etcd.revision()
    for n in range(6):
        etcd.put(prefix + b"%d" % n)
    first = etcd.list_prefix(prefix, limit=2, max_mod_revision=base + 3)
    assert (len(first.kvs), first.count, first.more) == (2, 6, True)
    whole = etcd.list_prefix(prefix, limit=3, max_mod_revision=base + 3)
    assert (len(whole.kvs), whole.count, whole.more) == (3, 6, False)
    nothing = etcd.list_prefix(prefix, min_create_revision=base + 100)
    assert (len(nothing.kvs), nothing.count, nothing.more) == (0, 6, False)


@pytest.mark.parametrize("target", [Range.VERSION, Range.CREATE, Range.MOD, Range.VALUE])
def test_without_order_the_first_limit_plus_one_keys_are_taken_then_sorted(etcd, prefix, target):
    # Written in reverse key order and ever less often: each target sorts against the keys.
    for times, name in enumerate((b"e", b"d", b"c", b"b", b"a"), start=1):
        for _ in range(times):
            etcd.put(prefix + name, b"%d" % times)
    response = etcd.list_prefix(prefix, sort_target=target, limit=2)
    assert keys(response) == [prefix + b"c", prefix + b"b"]
    assert (response.count, response.more) == (5, True)


@pytest.mark.parametrize("order", [Range.ASCEND, Range.DESCEND])
def test_up_to_twelve_equal_sort_keys_stay_in_key_order(etcd, prefix, order):
    names = [prefix + b"%02d" % n for n in range(12)]
    for name in reversed(names):
        etcd.put(name, b"same")
    response = etcd.list_prefix(prefix, sort_target=Range.VALUE, sort_order=order)
    assert keys(response) == names


def test_a_sort_of_equal_keys_loses_none(etcd, prefix):
    names = [prefix + b"%02d" % n for n in range(30)]
    for name in names:
        etcd.put(name, b"same")
    response = etcd.list_prefix(prefix, sort_target=Range.VALUE, sort_order=Range.DESCEND)
    assert sorted(keys(response)) == names


def test_keys_only_omits_the_lease_but_sorted_by_value_keeps_it(etcd, prefix):
    lease = etcd.grant(1000).ID
    etcd.put(prefix, b"v", lease=lease)
    (plain,) = etcd.list_prefix(prefix, keys_only=True).kvs
    assert (plain.lease, plain.value) == (0, b"")
    for order in (Range.NONE, Range.ASCEND, Range.DESCEND):
        (kv,) = etcd.list_prefix(
            prefix, keys_only=True, sort_target=Range.VALUE, sort_order=order
        ).kvs
        assert (kv.lease, kv.value) == (lease, b"")
    (other,) = etcd.list_prefix(
        prefix, keys_only=True, sort_target=Range.MOD, sort_order=Range.ASCEND
    ).kvs
    assert other.lease == 0


def test_keys_only_sorted_by_value_still_sorts_by_the_value_left_out(etcd, prefix):
    for name, value in ((b"a", b"2"), (b"b", b"1")):
        etcd.put(prefix + name, value)
    response = etcd.list_prefix(
        prefix, keys_only=True, sort_target=Range.VALUE, sort_order=Range.ASCEND
    )
    assert keys(response) == [prefix + b"b", prefix + b"a"]


def test_a_negative_revision_is_the_current_one_except_in_a_txn(etcd, prefix):
    etcd.put(prefix, b"v")
    etcd.compact(etcd.revision())
    assert values(etcd.range(prefix, revision=-7)) == [b"v"]
    with refused(COMPACTED):
        etcd.txn([ops.get(prefix, revision=-7)])


# --- compaction


def test_compacting_at_zero_works_once_on_a_fresh_store(fresh):
    with refused(COMPACTED):
        fresh.compact(-1)
    assert fresh.compact(0).header.revision == 1
    with refused(COMPACTED):
        fresh.compact(0)
    assert fresh.compact(1).header.revision == 1
    with refused(COMPACTED):
        fresh.compact(1)
    with refused(FUTURE_REVISION):
        fresh.compact(2)


def test_compacting_again_is_refused_and_reading_at_it_works(etcd, prefix):
    current = etcd.put(prefix, b"v").header.revision
    etcd.compact(current)
    with refused(COMPACTED):
        etcd.compact(current)
    assert values(etcd.range(prefix, revision=current)) == [b"v"]


@pytest.fixture
def deleted_at(etcd, prefix):
    """The revision of a delete that was then physically compacted at just that revision."""
    etcd.put(prefix, b"v")
    revision = etcd.delete(prefix).header.revision
    etcd.put(prefix + b"later")
    etcd.compact(revision, physical=True)
    return revision


def test_a_watch_from_a_compacted_delete_still_gets_it_without_prev_kv(
    etcd, stream, prefix, deleted_at
):
    stream.create(prefix, start_revision=deleted_at, prev_kv=True)
    (event,) = stream.events(1)
    assert (event.type, event.kv.key, event.kv.mod_revision) == (1, prefix, deleted_at)
    assert not event.HasField("prev_kv")


def test_a_watch_from_one_before_the_compacted_delete_is_cancelled(
    etcd, stream, prefix, deleted_at
):
    stream.create(prefix, start_revision=deleted_at - 1)
    response = stream.next()
    assert (response.canceled, response.compact_revision) == (True, deleted_at)


def test_the_next_compaction_takes_the_delete_away(etcd, stream, prefix, deleted_at):
    etcd.compact(deleted_at + 1, physical=True)
    stream.create(prefix, prefix_end(prefix), start_revision=deleted_at + 1)
    (event,) = stream.events(1)
    assert event.kv.key == prefix + b"later"


# --- forms of range


def test_an_empty_range_end_is_a_single_key(etcd, prefix):
    etcd.put(prefix)
    etcd.put(prefix + b"\x00")
    assert keys(etcd.range(prefix, b"")) == [prefix]
    assert etcd.delete(prefix, b"").deleted == 1
    assert etcd.list_prefix(prefix).count == 1


def test_a_zero_byte_as_range_end_is_from_key_and_with_itself_everything(fresh):
    for key in (b"\x00", b"a", b"b", b"\xff"):
        fresh.put(key)
    assert keys(fresh.range(b"b", ALL)) == [b"b", b"\xff"]
    assert keys(fresh.range(ALL, ALL)) == [b"\x00", b"a", b"b", b"\xff"]
    # Two zero bytes are an ordinary end.
    assert keys(fresh.range(b"\x00", b"\x00\x00")) == [b"\x00"]
