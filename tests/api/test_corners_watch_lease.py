"""The corners of Watch and Lease that are commonly got wrong, one test for each."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api import ops
from tests.api.errors import LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, refused
from tests.support.grpc_client import prefix_end

NOPUT = pb.WatchCreateRequest.NOPUT
LARGE = 100_000

# --- Watch


def test_watch_id_zero_means_assign(stream, prefix):
    stream.create(prefix, watch_id=1)
    assert stream.create(prefix, watch_id=0).watch_id == 0
    # Zero is never a duplicate: it asks for the next free id.
    assert stream.create(prefix, watch_id=0).watch_id == 2


def test_created_comes_before_the_events_of_the_past(etcd, stream, prefix):
    start = etcd.put(prefix).header.revision
    current = etcd.put(prefix).header.revision
    created = stream.create(prefix, start_revision=start)
    assert (created.header.revision, list(created.events)) == (current, [])
    assert len(stream.events(2)) == 2


def test_a_compacted_start_is_created_then_cancelled_under_revision_zero(etcd, stream, prefix):
    start = etcd.put(prefix).header.revision
    compacted = etcd.put(prefix).header.revision
    etcd.compact(compacted)
    created = stream.create(prefix, start_revision=start)
    assert (created.canceled, created.header.revision) == (False, compacted)
    cancelled = stream.next()
    assert (cancelled.created, cancelled.canceled) == (False, True)
    assert (cancelled.compact_revision, cancelled.header.revision) == (compacted, 0)
    assert cancelled.watch_id == created.watch_id


def test_the_id_of_a_watch_cancelled_by_compaction_stays_taken(etcd, stream, prefix):
    start = etcd.put(prefix).header.revision
    etcd.compact(etcd.put(prefix).header.revision)
    stream.create(prefix, start_revision=start, watch_id=9)
    assert stream.next().compact_revision
    stream.send_create(prefix, watch_id=9)
    assert stream.next().watch_id == -1
    stream.send_cancel(9)
    assert (stream.next().canceled, stream.create(prefix, watch_id=9).watch_id) == (True, 9)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start_revision": -1}, "etcdserver: mvcc: required revision has been compacted"),
        ({"range_end": b"\x01"}, "mvcc: watcher range is empty"),
        ({"watch_id": 7}, "mvcc: duplicate watch ID provided on the WatchStream"),
    ],
    ids=["negative start", "empty range", "duplicate id"],
)
def test_what_cannot_be_watched_is_minus_one_created_and_cancelled(
    etcd, stream, prefix, options, reason
):
    stream.create(prefix, watch_id=7)
    stream.send_create(prefix, **options)
    response = stream.next()
    assert (response.watch_id, response.created, response.canceled) == (-1, True, True)
    assert (response.cancel_reason, response.compact_revision) == (reason, 0)
    assert response.header.revision == etcd.revision()


def test_cancelling_an_unknown_id_is_silence(stream, prefix):
    stream.send_cancel(4711)
    assert stream.create(prefix).watch_id == 0


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_start_after_the_current_revision_is_synced_and_sees_nothing_earlier(
    etcd, stream, prefix, ahead
):
    start = etcd.put(prefix).header.revision + ahead
    stream.create(prefix, start_revision=start)
    for _ in range(ahead + 1):
        etcd.put(prefix)
    assert [e.kv.mod_revision for e in stream.events(2)] == [start, start + 1]


def test_catch_up_packs_revisions_with_the_current_one_in_the_header(etcd, stream, prefix):
    made = [etcd.put(prefix).header.revision for _ in range(20)]
    current = etcd.put(b"elsewhere/" + prefix).header.revision
    stream.create(prefix, start_revision=made[0])
    (response,) = stream.responses_until(20)
    assert [e.kv.mod_revision for e in response.events] == made
    assert response.header.revision == current


@pytest.mark.parametrize("fragment", [False, True])
def test_one_revision_is_split_only_with_fragment(etcd, stream, prefix, fragment):
    names = [prefix + b"%02d" % n for n in range(12)]
    etcd.txn([ops.put(name, b"x" * LARGE) for name in names])
    stream.create(prefix, prefix_end(prefix), prev_kv=True, fragment=fragment)
    etcd.txn([ops.put(name, b"y" * LARGE) for name in names])
    responses = stream.responses_until(12)
    assert (len(responses) > 1) == fragment
    assert [r.fragment for r in responses] == [True] * (len(responses) - 1) + [False]
    assert [e.kv.key for r in responses for e in r.events] == names


def test_a_response_emptied_by_filters_is_not_sent(etcd, stream, prefix):
    start = etcd.put(prefix).header.revision
    stream.create(prefix, start_revision=start, filters=[NOPUT])
    etcd.put(prefix)
    etcd.delete(prefix)
    (event,) = stream.next().events
    assert event.type == 1


# --- Watch, manual progress (periodic progress needs a flag: see test_watch_progress)


def assert_dropped(etcd, stream, prefix):
    """The progress request just sent is never answered.

    The stream is read in order, so the answer to the create behind it shows that the request was
    looked at; its answer would come before the event of the put.
    """
    watch_id = stream.create(prefix + b"marker").watch_id
    etcd.put(prefix + b"marker")
    response = stream.next()
    assert (response.watch_id, len(response.events)) == (watch_id, 1)


def test_manual_progress_is_dropped_if_a_watcher_starts_above_the_current_revision(
    etcd, stream, prefix
):
    stream.create(prefix + b"present")
    stream.create(prefix + b"future", start_revision=etcd.revision() + 2)
    stream.send_progress_request()
    assert_dropped(etcd, stream, prefix)


def test_manual_progress_is_answered_if_a_watcher_starts_at_the_current_revision(
    etcd, stream, prefix
):
    current = etcd.put(prefix).header.revision
    stream.create(prefix, start_revision=current)
    stream.events(1)
    stream.send_progress_request()
    assert (stream.next().header.revision, current) == (current, etcd.revision())


def test_a_watcher_from_the_next_revision_holds_manual_progress_back(etcd, stream, prefix):
    stream.create(prefix, start_revision=etcd.revision() + 1)
    stream.send_progress_request()
    assert_dropped(etcd, stream, prefix)
    stream.send_progress_request()
    response = stream.next()
    assert (response.watch_id, response.header.revision) == (-1, etcd.revision())


def test_manual_progress_is_dropped_if_the_stream_has_no_watcher(etcd, stream, prefix):
    stream.send_progress_request()
    assert_dropped(etcd, stream, prefix)


def test_manual_progress_is_not_answered_before_unsynced_watchers_are(etcd, stream, prefix):
    start = etcd.put(prefix).header.revision
    stream.send_create(prefix, start_revision=start)
    stream.send_progress_request()
    assert stream.next().created
    assert stream.next().events


# --- Lease


def test_a_ttl_below_two_becomes_two_in_the_response(etcd):
    assert [etcd.grant(ttl).TTL for ttl in (-5, 0, 1, 2, 3)] == [2, 2, 2, 2, 3]


def test_a_ttl_above_nine_billion_is_an_error(etcd):
    with refused(LEASE_TTL_TOO_LARGE):
        etcd.grant(9_000_000_001)


def test_an_existing_id_is_an_error(etcd):
    lease = etcd.grant(100).ID
    with refused(LEASE_EXISTS):
        etcd.grant(100, lease)


def test_id_zero_is_chosen(etcd):
    first, second = etcd.grant(100, 0).ID, etcd.grant(100, 0).ID
    assert 0 < first != second > 0


def test_an_unknown_lease_lives_minus_one_is_kept_for_zero_and_not_revoked(etcd):
    unknown = 4711
    assert etcd.time_to_live(unknown).TTL == -1
    assert [response.TTL for response in etcd.keep_alive(unknown)] == [0]
    with refused(LEASE_NOT_FOUND):
        etcd.revoke(unknown)


def test_put_with_lease_zero_detaches(etcd, prefix):
    lease = etcd.grant(100).ID
    etcd.put(prefix, lease=lease)
    etcd.put(prefix, lease=0)
    assert list(etcd.time_to_live(lease, keys=True).keys) == []
    etcd.revoke(lease)
    assert etcd.range(prefix).kvs[0].lease == 0


def test_the_header_of_a_keep_alive_is_taken_before_the_renewal(etcd, stream, prefix):
    # A renewal of an expired lease waits for the revoke, and the header shows the time before it.
    # Only a few milliseconds lie between deadline and revoke: forty leases are each asked for
    # around their own, and a round that hit none of these moments is followed by another.
    stream.create(prefix, prefix_end(prefix), filters=[NOPUT])
    for _ in range(6):
        gone, deleted = ask_around_the_deadlines(etcd, stream, prefix)
        if any(gone[key] < deleted[key] for key in gone):
            return
    pytest.fail(f"no header was older than the revoke it waited for: {gone} {deleted}")


def ask_around_the_deadlines(etcd, stream, prefix):
    """The header revisions of leases found gone, and the revisions that deleted their keys."""
    asked = {}
    with ThreadPoolExecutor(max_workers=40) as pool:
        for n in range(40):
            key, lease = prefix + b"%02d" % n, etcd.grant(2).ID
            moment = time.monotonic() + 2 + (n - 20) / 2000
            etcd.put(key, lease=lease)
            asked[key] = pool.submit(keep_alive_at, etcd, lease, moment)
    answers = {key: future.result() for key, future in asked.items()}
    for answer in answers.values():
        assert answer.TTL in (0, 2)
        if answer.TTL:
            etcd.revoke(answer.ID)
    deleted = {event.kv.key: event.kv.mod_revision for event in stream.events(40)}
    return {key: a.header.revision for key, a in answers.items() if not a.TTL}, deleted


def keep_alive_at(etcd, lease, moment):
    time.sleep(max(0.0, moment - time.monotonic()))
    return etcd.keep_alive(lease)[0]
