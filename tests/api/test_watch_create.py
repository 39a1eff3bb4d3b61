"""Watch: creating and cancelling watches on a stream, their ids, and the answers to bad ones."""

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api.errors import COMPACTED

EMPTY_RANGE = "mvcc: watcher range is empty"
DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"


def test_created_comes_first_with_the_current_revision(etcd, stream, prefix):
    header = etcd.put(prefix).header
    response = stream.create(prefix)
    assert response.header == header
    assert (response.created, response.canceled) == (True, False)
    assert list(response.events) == []


def test_ids_are_assigned_from_zero(stream, prefix):
    assert [stream.create(prefix).watch_id for _ in range(3)] == [0, 1, 2]


def test_a_client_may_choose_an_id(etcd, stream, prefix):
    assert stream.create(prefix, watch_id=4711).watch_id == 4711
    etcd.put(prefix)
    assert stream.next().watch_id == 4711


def test_assigned_ids_step_over_chosen_ones(stream, prefix):
    assert stream.create(prefix, watch_id=1).watch_id == 1
    assert [stream.create(prefix).watch_id for _ in range(3)] == [0, 2, 3]


def test_an_assigned_id_is_not_used_again(stream, prefix):
    watch_id = stream.create(prefix).watch_id
    stream.send_cancel(watch_id)
    assert stream.next().canceled
    assert stream.create(prefix).watch_id == watch_id + 1


def test_a_chosen_id_is_free_again_after_its_cancel(etcd, stream, prefix):
    stream.create(prefix + b"a", watch_id=7)
    stream.send_cancel(7)
    assert stream.next().canceled
    assert stream.create(prefix + b"b", watch_id=7).watch_id == 7
    etcd.put(prefix + b"a")
    etcd.put(prefix + b"b")
    (event,) = stream.events(1)
    assert event.kv.key == prefix + b"b"


def test_each_stream_has_ids_of_its_own(etcd, stream, prefix):
    assert stream.create(prefix).watch_id == 0
    with etcd.watch_stream() as other:
        assert other.create(prefix).watch_id == 0


def test_cancel_is_answered_and_ends_the_events(etcd, stream, prefix):
    gone = stream.create(prefix).watch_id
    stream.send_cancel(gone)
    response = stream.next()
    assert (response.watch_id, response.canceled, response.created) == (gone, True, False)
    assert (response.compact_revision, response.cancel_reason) == (0, "")
    assert response.header.revision == etcd.revision()
    kept = stream.create(prefix).watch_id
    etcd.put(prefix)
    assert stream.next().watch_id == kept


def test_cancelling_an_unknown_id_is_silence(stream, prefix):
    stream.create(prefix)
    stream.send_cancel(99)
    stream.send_cancel(-1)
    assert stream.create(prefix).created


def test_a_request_without_content_is_silence(stream, prefix):
    stream.send(pb.WatchRequest())
    assert stream.create(prefix).created


def assert_refused(response, reason):
    assert (response.created, response.canceled, response.watch_id) == (True, True, -1)
    assert response.cancel_reason == reason
    assert response.compact_revision == 0
    assert response.header.revision > 0


def test_a_negative_start_is_created_and_cancelled(stream, prefix):
    stream.send_create(prefix, start_revision=-1)
    assert_refused(stream.next(), COMPACTED.text)


@pytest.mark.parametrize(("start", "end"), [(b"b", b"b"), (b"b", b"a")])
def test_an_empty_range_is_created_and_cancelled(stream, prefix, start, end):
    stream.send_create(prefix + start, prefix + end)
    assert_refused(stream.next(), EMPTY_RANGE)


def test_a_duplicate_id_is_created_and_cancelled_and_the_first_lives(etcd, stream, prefix):
    stream.create(prefix, watch_id=7)
    stream.send_create(prefix + b"other", watch_id=7)
    assert_refused(stream.next(), DUPLICATE_ID)
    etcd.put(prefix)
    (event,) = stream.events(1)
    assert event.kv.key == prefix


def test_a_refused_watch_leaves_the_stream_working(etcd, stream, prefix):
    stream.send_create(prefix, start_revision=-5)
    assert stream.next().canceled
    stream.create(prefix)
    etcd.put(prefix)
    assert len(stream.events(1)) == 1


def test_a_stream_may_require_a_leader(etcd, prefix):
    with etcd.watch_stream(metadata=(("hasleader", "true"),)) as stream:
        stream.create(prefix)
        etcd.put(prefix)
        assert len(stream.events(1)) == 1


def test_many_watches_on_one_stream_each_get_their_own(etcd, stream, prefix):
    for n in range(100):
        stream.send_create(prefix + b"%02d" % n, watch_id=1000 + n)
    created = [stream.next() for _ in range(100)]
    assert {response.watch_id for response in created} == set(range(1000, 1100))
    for n in (99, 0, 50):
        etcd.put(prefix + b"%02d" % n)
        response = stream.next()
        assert response.watch_id == 1000 + n
        assert [event.kv.key for event in response.events] == [prefix + b"%02d" % n]
