"""Watch: starts in the past, the present, the future and before a compaction; fragments."""

import pytest

from tests.api import ops
from tests.support.grpc_client import prefix_end

LARGE = 100_000


def revisions(events):
    return [event.kv.mod_revision for event in events]


@pytest.fixture
def history(etcd, prefix):
    """Five revisions of one key, the revisions returned."""
    return [etcd.put(prefix, b"%d" % n).header.revision for n in range(5)]


# --- starts


def test_a_start_in_the_past_is_caught_up_inclusively(etcd, stream, prefix, history):
    stream.create(prefix, start_revision=history[1])
    assert revisions(stream.events(4)) == history[1:]


def test_the_past_goes_over_into_the_present(etcd, stream, prefix, history):
    stream.create(prefix, start_revision=history[0])
    later = [etcd.put(prefix).header.revision for _ in range(5)]
    assert revisions(stream.events(10)) == history + later


def test_without_a_start_only_what_comes_is_told(etcd, stream, prefix, history):
    stream.create(prefix)
    later = etcd.put(prefix).header.revision
    assert revisions(stream.events(1)) == [later]


def test_a_start_at_the_next_revision_is_the_present(etcd, stream, prefix, history):
    stream.create(prefix, start_revision=history[-1] + 1)
    later = etcd.put(prefix).header.revision
    assert revisions(stream.events(1)) == [later]


def test_a_start_in_the_future_leaves_out_what_is_before_it(etcd, stream, prefix, history):
    start = history[-1] + 3
    stream.create(prefix, start_revision=start)
    for _ in range(4):
        etcd.put(prefix)
    assert revisions(stream.events(2)) == [start, start + 1]


def test_past_events_are_the_ones_of_the_range(etcd, stream, prefix):
    start = etcd.put(prefix + b"a").header.revision
    etcd.put(b"elsewhere/" + prefix)
    etcd.delete(prefix + b"a")
    etcd.put(prefix + b"b")
    stream.create(prefix, prefix_end(prefix), start_revision=start)
    assert revisions(stream.events(3)) == [start, start + 2, start + 3]


def test_a_past_without_events_is_silence_until_one_comes(etcd, stream, prefix, history):
    stream.create(prefix + b"other", start_revision=history[0])
    later = etcd.put(prefix + b"other").header.revision
    assert revisions(stream.events(1)) == [later]


def test_a_past_delete_is_told(etcd, stream, prefix, history):
    revision = etcd.delete(prefix).header.revision
    stream.create(prefix, start_revision=revision)
    (event,) = stream.events(1)
    assert (event.type, event.kv.key, event.kv.mod_revision) == (1, prefix, revision)
    assert event.kv.value == b""


def test_catch_up_packs_revisions_under_the_current_header(etcd, stream, prefix, history):
    current = etcd.put(b"elsewhere/" + prefix).header.revision
    stream.create(prefix, start_revision=history[0])
    (response,) = stream.responses_until(5)
    assert revisions(response.events) == history
    assert response.header.revision == current


def test_a_long_past_arrives_whole_and_in_order(etcd, stream, prefix):
    calls = [etcd.put_later(prefix + b"%d" % n) for n in range(2500)]
    made = sorted(call.result().header.revision for call in calls)
    stream.create(prefix, prefix_end(prefix), start_revision=made[0])
    responses = stream.responses_until(2500)
    assert [r for response in responses for r in revisions(response.events)] == made
    assert len(responses) < 100


# --- compacted starts


def test_a_compacted_start_is_created_then_cancelled(etcd, stream, prefix, history):
    compacted = history[2]
    etcd.compact(compacted)
    created = stream.create(prefix, start_revision=history[0])
    assert created.header.revision == history[-1]
    assert not created.canceled
    response = stream.next()
    assert (response.watch_id, response.canceled) == (created.watch_id, True)
    assert response.compact_revision == compacted
    assert response.header.revision == 0
    assert response.header.member_id == created.header.member_id
    assert (response.created, response.cancel_reason, list(response.events)) == (False, "", [])


def test_the_compacted_revision_itself_can_be_watched(etcd, stream, prefix, history):
    etcd.compact(history[2])
    stream.create(prefix, start_revision=history[2])
    assert revisions(stream.events(3)) == history[2:]


def test_a_caught_up_watch_outlives_a_compaction(etcd, stream, prefix, history):
    stream.create(prefix, start_revision=history[0])
    stream.events(5)
    etcd.compact(history[-1], physical=True)
    later = etcd.put(prefix).header.revision
    assert revisions(stream.events(1)) == [later]


def test_other_watches_of_the_stream_live_on(etcd, stream, prefix, history):
    etcd.compact(history[2])
    living = stream.create(prefix).watch_id
    stream.create(prefix, start_revision=history[0])
    assert stream.next().compact_revision == history[2]
    etcd.put(prefix)
    assert stream.next().watch_id == living


# --- fragments


@pytest.fixture
def heavy(etcd, prefix):
    """One revision whose events with prev_kv are 2.4 MB: over the limit for one message."""
    names = [prefix + b"%02d" % n for n in range(12)]
    for fill in (b"x", b"y"):
        response = etcd.txn([ops.put(name, fill * LARGE) for name in names])
    return response.header.revision, names


@pytest.mark.parametrize("when", ["live", "past"])
def test_one_revision_is_one_response_without_fragment(etcd, stream, prefix, heavy, when):
    revision, names = heavy
    if when == "past":
        stream.create(prefix, prefix_end(prefix), prev_kv=True, start_revision=revision)
    else:
        stream.create(prefix, prefix_end(prefix), prev_kv=True)
        etcd.txn([ops.put(name, b"z" * LARGE) for name in names])
    response = stream.next()
    assert [event.kv.key for event in response.events] == names
    assert response.ByteSize() > 2_400_000
    assert not response.fragment


@pytest.mark.parametrize("when", ["live", "past"])
def test_fragments_split_one_revision_and_the_last_says_so(etcd, stream, prefix, heavy, when):
    revision, names = heavy
    options = {"prev_kv": True, "fragment": True}
    if when == "past":
        stream.create(prefix, prefix_end(prefix), start_revision=revision, **options)
    else:
        stream.create(prefix, prefix_end(prefix), **options)
        revision = etcd.txn([ops.put(name, b"z" * LARGE) for name in names]).header.revision
    responses = stream.responses_until(12)
    assert len(responses) > 1
    assert [r.fragment for r in responses] == [True] * (len(responses) - 1) + [False]
    assert {r.header.revision for r in responses} == {revision}
    assert all(response.ByteSize() < 2 * 1024 * 1024 for response in responses)
    assert [event.kv.key for r in responses for event in r.events] == names


def test_a_small_response_is_no_fragment(etcd, stream, prefix):
    stream.create(prefix, fragment=True)
    etcd.put(prefix)
    assert not stream.next().fragment
