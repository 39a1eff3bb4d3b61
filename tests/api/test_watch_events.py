"""Watch: which events arrive, in what order, and what they carry."""

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api import ops
from tests.support.grpc_client import ALL, prefix_end

PUT, DELETE = 0, 1
NOPUT = pb.WatchCreateRequest.NOPUT
NODELETE = pb.WatchCreateRequest.NODELETE


def told(events):
    """Events as (type, key, mod_revision)."""
    return [(event.type, event.kv.key, event.kv.mod_revision) for event in events]


# --- live events


def test_a_put_is_told_with_the_whole_key(etcd, stream, prefix):
    lease = etcd.grant(1000).ID
    watch_id = stream.create(prefix).watch_id
    revision = etcd.put(prefix, b"v", lease=lease).header.revision
    response = stream.next()
    assert (response.watch_id, response.header.revision) == (watch_id, revision)
    assert not response.created
    assert not response.canceled
    (event,) = response.events
    assert event.type == PUT
    assert event.kv == etcd.range(prefix).kvs[0]


def test_a_delete_is_told_with_key_and_revision_only(etcd, stream, prefix):
    etcd.put(prefix, b"v")
    stream.create(prefix)
    revision = etcd.delete(prefix).header.revision
    (event,) = stream.events(1)
    assert event.type == DELETE
    assert (event.kv.key, event.kv.mod_revision) == (prefix, revision)
    assert (event.kv.value, event.kv.create_revision, event.kv.version) == (b"", 0, 0)
    assert not event.HasField("prev_kv")


def test_creation_is_known_by_equal_revisions(etcd, stream, prefix):
    stream.create(prefix)
    etcd.put(prefix)
    etcd.put(prefix)
    created, changed = stream.events(2)
    assert created.kv.create_revision == created.kv.mod_revision
    assert changed.kv.create_revision == created.kv.mod_revision < changed.kv.mod_revision


def test_all_events_of_a_revision_come_together_in_the_order_made(etcd, stream, prefix):
    etcd.put(prefix + b"x")
    stream.create(prefix, prefix_end(prefix))
    revision = etcd.txn(
        [ops.put(prefix + b"z"), ops.delete(prefix + b"x"), ops.put(prefix + b"a")]
    ).header.revision
    response = stream.next()
    assert told(response.events) == [
        (PUT, prefix + b"z", revision),
        (DELETE, prefix + b"x", revision),
        (PUT, prefix + b"a", revision),
    ]


def test_a_range_delete_is_told_in_key_order(etcd, stream, prefix):
    for name in (b"c", b"a", b"b"):
        etcd.put(prefix + name)
    stream.create(prefix, prefix_end(prefix))
    revision = etcd.delete(prefix, prefix_end(prefix)).header.revision
    names = [prefix + b"a", prefix + b"b", prefix + b"c"]
    assert told(stream.next().events) == [(DELETE, name, revision) for name in names]


def test_what_changes_nothing_is_told_nothing(etcd, stream, prefix):
    stream.create(prefix)
    etcd.delete(prefix)
    etcd.txn([ops.get(prefix)])
    revision = etcd.put(prefix).header.revision
    assert told(stream.events(1)) == [(PUT, prefix, revision)]


# --- forms of range


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((b"b", b""), [b"b"]),
        ((b"b", b"d"), [b"b", b"c"]),
        ((b"", None), [b"a", b"b", b"c", b"d"]),
    ],
    ids=["key", "range", "prefix"],
)
def test_a_watch_sees_its_range_only(etcd, stream, prefix, bounds, expected):
    start, end = bounds
    range_end = prefix_end(prefix) if end is None else prefix + end if end else b""
    stream.create(prefix + start, range_end)
    for name in (b"a", b"b", b"c", b"d"):
        etcd.put(prefix + name)
    events = stream.events(len(expected))
    assert [event.kv.key for event in events] == [prefix + name for name in expected]


def test_a_watch_from_a_key_sees_all_behind_it(fresh):
    with fresh.watch_stream() as stream:
        stream.create(b"m", ALL)
        for key in (b"a", b"m", b"\xff\xff"):
            fresh.put(key)
        assert [event.kv.key for event in stream.events(2)] == [b"m", b"\xff\xff"]


@pytest.mark.parametrize("key", [b"", b"\x00"])
def test_a_watch_from_the_lowest_key_sees_everything(fresh, key):
    with fresh.watch_stream() as stream:
        stream.create(key, ALL)
        for name in (b"\x00", b"a", b"\xff"):
            fresh.put(name)
        assert [event.kv.key for event in stream.events(3)] == [b"\x00", b"a", b"\xff"]


def test_an_empty_key_alone_is_the_lowest_key(fresh):
    with fresh.watch_stream() as stream:
        stream.create(b"")
        fresh.put(b"a")
        fresh.put(b"\x00")
        assert [event.kv.key for event in stream.events(1)] == [b"\x00"]


def test_watches_that_overlap_are_each_told(etcd, stream, prefix):
    one = stream.create(prefix + b"a").watch_id
    whole = stream.create(prefix, prefix_end(prefix)).watch_id
    etcd.put(prefix + b"a")
    assert {stream.next().watch_id, stream.next().watch_id} == {one, whole}


# --- previous versions


def test_prev_kv_is_the_version_before_the_revision(etcd, stream, prefix):
    stream.create(prefix, prev_kv=True)
    etcd.put(prefix, b"1")
    etcd.put(prefix, b"2")
    before = etcd.range(prefix).kvs[0]
    etcd.delete(prefix)
    etcd.put(prefix, b"3")
    created, changed, deleted, again = stream.events(4)
    assert not created.HasField("prev_kv")
    assert changed.prev_kv == created.kv
    assert deleted.prev_kv == before
    assert not again.HasField("prev_kv")


def test_prev_kv_comes_only_when_asked_for(etcd, stream, prefix):
    etcd.put(prefix, b"1")
    stream.create(prefix)
    etcd.put(prefix, b"2")
    (event,) = stream.events(1)
    assert not event.HasField("prev_kv")


def test_prev_kv_of_past_events_too(etcd, stream, prefix):
    start = etcd.put(prefix, b"1").header.revision
    etcd.put(prefix, b"2")
    etcd.delete(prefix)
    stream.create(prefix, prev_kv=True, start_revision=start)
    events = stream.events(3)
    assert [event.prev_kv.value for event in events] == [b"", b"1", b"2"]


# --- filters


@pytest.mark.parametrize(("left_out", "types"), [(NOPUT, [DELETE]), (NODELETE, [PUT, PUT])])
def test_filters_leave_out_a_kind_of_live_events(etcd, stream, prefix, left_out, types):
    stream.create(prefix, filters=[left_out])
    etcd.put(prefix, b"1")
    etcd.delete(prefix)
    etcd.put(prefix, b"2")
    assert [event.type for event in stream.events(len(types))] == types


@pytest.mark.parametrize(("left_out", "types"), [(NOPUT, [DELETE]), (NODELETE, [PUT, PUT])])
def test_filters_leave_out_a_kind_of_past_events(etcd, stream, prefix, left_out, types):
    start = etcd.put(prefix, b"1").header.revision
    etcd.delete(prefix)
    etcd.put(prefix, b"2")
    stream.create(prefix, filters=[left_out], start_revision=start)
    assert [event.type for event in stream.events(len(types))] == types


def test_a_response_emptied_by_filters_is_not_sent(etcd, stream, prefix):
    stream.create(prefix, filters=[NOPUT])
    etcd.put(prefix)
    etcd.put(prefix)
    revision = etcd.delete(prefix).header.revision
    response = stream.next()
    assert told(response.events) == [(DELETE, prefix, revision)]


def test_both_filters_leave_nothing(etcd, stream, prefix):
    stream.create(prefix, filters=[NOPUT, NODELETE])
    etcd.put(prefix)
    etcd.delete(prefix)
    other = stream.create(prefix + b"other").watch_id
    etcd.put(prefix + b"other")
    assert stream.next().watch_id == other


# --- order under load


def test_concurrent_writers_are_told_once_each_in_revision_order(etcd, stream, prefix):
    stream.create(prefix, prefix_end(prefix))
    calls = [etcd.put_later(prefix + b"%d" % (n % 7), b"%d" % n) for n in range(300)]
    revisions = sorted(call.result().header.revision for call in calls)
    assert [event.kv.mod_revision for event in stream.events(300)] == revisions
