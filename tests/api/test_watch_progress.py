"""Watch: progress, asked for and periodic. It promises that nothing older will still come."""

import time

import pytest

INTERVAL_SECONDS = 0.6


@pytest.fixture(scope="module")
def etcd(launch):
    """A server that tells progress often."""
    return launch(f"--watch-progress-notify-interval={int(INTERVAL_SECONDS * 1000)}ms")


def is_progress(response):
    return not (response.events or response.created or response.canceled)


# --- asked for


def test_manual_progress_tells_the_current_revision_for_the_stream(etcd, stream, prefix):
    stream.create(prefix)
    stream.create(prefix + b"other")
    current = etcd.put(b"elsewhere/" + prefix).header.revision
    stream.send_progress_request()
    response = stream.next()
    assert is_progress(response)
    assert (response.watch_id, response.header.revision) == (-1, current)


def test_manual_progress_comes_after_the_events_it_covers(etcd, stream, prefix):
    stream.create(prefix)
    for _ in range(20):
        etcd.put(prefix)
        stream.send_progress_request()
    seen = progress = 0
    while not progress or progress < seen:
        response = stream.next()
        if response.events:
            assert response.events[0].kv.mod_revision > progress
            seen = response.events[-1].kv.mod_revision
        else:
            progress = response.header.revision
    assert seen <= progress


def test_a_second_request_is_answered_again(etcd, stream, prefix):
    stream.create(prefix)
    for _ in range(2):
        stream.send_progress_request()
        assert stream.next().watch_id == -1


def test_manual_progress_never_overtakes_the_catch_up(etcd, stream, prefix):
    start = etcd.put(prefix).header.revision
    stream.send_create(prefix, start_revision=start)
    stream.send_progress_request()
    assert stream.next().created
    assert stream.next().events[0].kv.mod_revision == start


def test_progress_is_answered_once_caught_up(etcd, stream, prefix):
    start = etcd.put(prefix).header.revision
    stream.create(prefix, start_revision=start)
    stream.events(1)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        stream.send_progress_request()
        try:
            response = stream.next(0.2)
        except AssertionError:
            continue
        assert (response.watch_id, response.header.revision) == (-1, start)
        return
    pytest.fail("no progress within 10 s of a synced stream")


def test_manual_progress_is_dropped_while_a_watch_starts_in_the_future(etcd, stream, prefix):
    current = etcd.revision()
    stream.create(prefix, start_revision=current + 2)
    stream.create(prefix + b"marker")
    stream.send_progress_request()
    # The stream is read in order: once this is answered, the request before it was looked at.
    stream.create(prefix + b"later")
    etcd.put(prefix + b"marker")
    assert stream.next().events
    stream.send_progress_request()
    stream.create(prefix + b"later still")
    etcd.put(prefix + b"marker")
    assert stream.next().events
    # The future has begun: from here on it is answered.
    stream.send_progress_request()
    assert stream.next().header.revision == current + 2


def test_manual_progress_without_a_watch_is_silence(etcd, stream, prefix):
    stream.send_progress_request()
    stream.create(prefix)
    etcd.put(prefix)
    assert stream.next().events


def test_manual_progress_after_the_last_watch_was_cancelled_is_silence(etcd, stream, prefix):
    stream.send_cancel(stream.create(prefix).watch_id)
    assert stream.next().canceled
    stream.send_progress_request()
    stream.create(prefix)
    etcd.put(prefix)
    assert stream.next().events


# --- periodic


def test_a_quiet_watch_is_told_progress_under_its_own_id(etcd, stream, prefix):
    current = etcd.put(b"elsewhere/" + prefix).header.revision
    watch_id = stream.create(prefix, progress_notify=True).watch_id
    for _ in range(2):
        response = stream.next()
        assert is_progress(response)
        assert (response.watch_id, response.header.revision) == (watch_id, current)


def test_only_watches_that_ask_are_told(etcd, stream, prefix):
    asking = stream.create(prefix, progress_notify=True).watch_id
    stream.create(prefix)
    assert [stream.next().watch_id for _ in range(2)] == [asking, asking]


def test_an_interval_with_events_is_left_out(etcd, stream, prefix):
    stream.create(prefix, progress_notify=True)
    assert is_progress(stream.next())
    tick = time.monotonic()
    etcd.put(prefix)
    assert stream.next().events
    assert is_progress(stream.next())
    assert time.monotonic() - tick > 1.5 * INTERVAL_SECONDS


def test_a_watch_in_the_future_is_told_no_progress(etcd, stream, prefix):
    present = stream.create(prefix, progress_notify=True).watch_id
    stream.create(prefix, progress_notify=True, start_revision=etcd.revision() + 1000)
    assert [stream.next().watch_id for _ in range(2)] == [present, present]
