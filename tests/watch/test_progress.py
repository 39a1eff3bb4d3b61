"""Progress: asked for by the client, and periodic."""

import asyncio

import pytest

from tests.watch.conftest import Node


async def test_a_synced_stream_answers_at_once_with_id_minus_one(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    await client.created(b"b", start_revision=1)
    await client.silent()  # it needs a read to be synced
    node.put(b"x")
    client.progress()
    response = await client.next()
    assert response.watch_id == -1
    assert response.header.revision == 2
    assert not response.created
    assert not response.canceled
    assert not response.events


async def test_it_queues_behind_events(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    client.call.window.clear()
    node.put(b"a", b"1")
    await asyncio.sleep(0)  # the sender now holds the first
    node.put(b"a", b"2")
    client.progress()
    await client.silent()
    client.call.window.set()
    revisions = [(await client.next()).header.revision for _ in range(3)]
    assert revisions == [2, 3, 3]


async def test_it_never_tells_less_than_what_was_read_before_its_publish(node: Node) -> None:
    """Caught up from a commit that the hub is yet to publish: the answer waits for it."""
    node.put(b"a")
    node.forget_recent()
    unpublished = node.store.commit([(b"a", b"2")])
    client = node.client()
    await client.created(b"a", start_revision=1)
    assert (await client.next()).events[-1].kv.mod_revision == 3
    client.progress()
    await client.silent()
    node.hub.publish(node.store.revision, unpublished)
    response = await client.next()
    assert (response.watch_id, response.header.revision) == (-1, 3)
    await client.silent()


async def test_no_watcher_no_answer(node: Node) -> None:
    client = node.client()
    client.progress()
    await client.silent()


async def test_a_watcher_in_the_future_silences_it_until_reached(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    await client.created(b"b", start_revision=3)
    client.progress()
    node.put(b"x")
    client.progress()
    await client.silent()
    node.put(b"x")
    client.progress()
    assert (await client.next()).header.revision == 3


async def test_a_watcher_that_catches_up_silences_it_for_good(node: Node) -> None:
    node.put(b"a")
    node.forget_recent()
    node.store.gate.clear()
    client = node.client()
    await client.created(b"a", start_revision=1)
    client.progress()
    await client.silent()
    node.store.gate.set()
    assert (await client.next()).events
    await client.silent()
    client.progress()
    assert (await client.next()).watch_id == -1


async def test_a_compacted_watcher_silences_it_until_cancelled(node: Node) -> None:
    node.write([(b"a", b"1")], [(b"a", b"2")])
    node.store.compact(3)
    client = node.client()
    await client.created(b"b")
    await client.created(b"a", start_revision=2)
    assert (await client.next()).compact_revision == 3
    client.progress()
    await client.silent()
    client.cancel(1)
    assert (await client.next()).canceled
    client.progress()
    assert (await client.next()).watch_id == -1


async def test_repeated_requests_of_a_client_that_does_not_read_are_one(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    client.call.window.clear()
    node.put(b"a")
    await asyncio.sleep(0)
    for _ in range(1000):
        client.progress()
    await client.silent(0.02)
    client.call.window.set()
    assert (await client.next()).events
    assert (await client.next()).watch_id == -1
    await client.silent()


class TestPeriodic:
    @pytest.fixture
    def progress_interval(self) -> float:
        return 0.1

    async def test_an_idle_watcher_is_told_again_and_again(self, node: Node) -> None:
        client = node.client()
        await client.created(b"a", watch_id=5, progress_notify=True)
        await client.created(b"a")
        for _ in range(3):
            response = await client.next()
            assert (response.watch_id, response.header.revision) == (5, 1)
            assert not response.events
            assert not response.created

    async def test_it_is_skipped_after_an_interval_with_events(self, node: Node) -> None:
        client = node.client()
        await client.created(b"a", progress_notify=True)
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.45
        while loop.time() < end:
            node.put(b"a")
            await asyncio.sleep(0.01)
        while not client.call.responses.empty():
            assert (await client.next()).events
        assert not (await client.next()).events

    async def test_events_for_others_do_not_silence_it(self, node: Node) -> None:
        client = node.client()
        await client.created(b"a", progress_notify=True)
        node.put(b"b")
        response = await client.next()
        assert (response.watch_id, response.header.revision) == (0, 2)

    async def test_a_watcher_in_the_future_is_not_told(self, node: Node) -> None:
        client = node.client()
        await client.created(b"a", progress_notify=True, start_revision=10)
        await client.silent(0.3)

    async def test_nor_one_that_catches_up_or_was_compacted(self, node: Node) -> None:
        node.write([(b"a", b"1")], [(b"a", b"2")])
        node.forget_recent()
        node.store.compact(3)
        node.store.gate.clear()
        client = node.client()
        await client.created(b"b", progress_notify=True, start_revision=3)
        await client.created(b"a", progress_notify=True, start_revision=2)
        await client.silent(0.25)
        node.store.gate.set()
        responses = [await client.next() for _ in range(3)]
        assert [r.watch_id for r in responses] == [1, 0, 0]
        assert [r.canceled for r in responses] == [True, False, False]

    async def test_cancel_ends_it(self, node: Node) -> None:
        client = node.client()
        await client.created(b"a", progress_notify=True)
        client.cancel(0)
        assert (await client.next()).canceled
        await client.silent(0.25)


async def test_the_interval_has_a_floor_and_a_jitter(node: Node) -> None:
    from kvshim.watch.hub import Hub

    hub = Hub(node.store, node.readers, 0.001, node.log)
    intervals = {hub.open_stream("")._interval for _ in range(50)}
    assert len(intervals) > 10
    assert all(0.1 <= interval <= 0.11 for interval in intervals)
    assert 600 <= Hub(node.store, node.readers, 0, node.log).open_stream("")._interval <= 660
