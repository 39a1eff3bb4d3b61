"""Slow clients, and how streams end."""

import asyncio

import pytest

from kvshim import errors
from kvshim.watch import outbox
from tests.watch.conftest import Node


@pytest.fixture
def small_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "QUEUE_BYTES_MAX", 3000)
    monkeypatch.setattr(outbox, "QUEUE_BYTES_RESUME", 1500)


@pytest.mark.usefixtures("small_queue")
@pytest.mark.parametrize("from_history", [True, False])
async def test_a_client_that_does_not_read_holds_a_bounded_queue(
    node: Node, from_history: bool
) -> None:
    client, other = node.client(), node.client()
    await client.created(b"a", b"b")
    await client.created(b"c")
    await other.created(b"a", b"b")
    client.call.window.clear()
    for number in range(100):
        node.put(b"a%d" % number, b"x" * 100)
        assert (await other.next()).events[0].kv.key == b"a%d" % number
        for stream in node.hub._streams:
            assert stream.outbox.bytes <= 3000 + 500
    assert node.hub.slow_watcher_count == 1
    assert [line for line, _ in node.log.lines] == ["watcher fell behind"]
    if from_history:
        node.forget_recent()
    node.put(b"a100", b"")
    client.call.window.set()
    found: list[bytes] = []
    while len(found) < 101:
        found += [event.kv.key for event in (await client.next()).events]
    assert found == [b"a%d" % n for n in range(101)]
    await client.silent()
    assert node.hub.slow_watcher_count == 0
    node.put(b"a", b"synced again")
    assert (await client.next()).events


@pytest.mark.usefixtures("small_queue")
async def test_a_slow_watcher_overtaken_by_compaction_is_cancelled(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    client.call.window.clear()
    for _ in range(100):
        node.put(b"a", b"x" * 100)
    node.store.compact(90)
    client.call.window.set()
    last = 1
    while not (response := await client.next()).canceled:
        for event in response.events:
            assert event.kv.mod_revision == last + 1
            last = event.kv.mod_revision
    assert response.compact_revision == 90
    assert 1 < last < 90
    await client.silent()


async def test_waiting_deliveries_of_one_watcher_leave_as_one(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    await client.created(b"b")
    client.call.window.clear()
    node.put(b"a")
    await asyncio.sleep(0)
    for key in (b"a", b"a", b"b", b"a"):
        node.put(key)
    client.call.window.set()
    got = [await client.next() for _ in range(4)]
    assert [(r.watch_id, len(r.events), r.header.revision) for r in got] == [
        (0, 1, 2),
        (0, 2, 4),
        (1, 1, 5),
        (0, 1, 6),
    ]


async def test_a_half_closed_stream_still_gets_events(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    client.call.requests.put_nowait(None)
    await client.silent()
    node.put(b"a")
    assert (await client.next()).events
    assert not client.task.done()


async def test_a_client_that_goes_leaves_nothing_behind(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    await client.created(b"b", start_revision=50)
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.task
    assert (node.hub.stream_count, node.hub.watcher_count) == (0, 0)
    node.put(b"a")


async def test_a_transport_that_cancels_receive_ends_the_call(node: Node) -> None:
    client = node.client()
    await client.created(b"a")

    async def gone() -> None:
        raise asyncio.CancelledError

    client.call.receive = gone  # type: ignore[method-assign]
    client.progress()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(client.task, 5)


async def test_a_failing_send_ends_the_call_with_its_error(node: Node) -> None:
    client = node.client()
    await client.created(b"a")

    async def broken(reply: object) -> None:
        raise errors.Stopped

    client.call.send = broken  # type: ignore[method-assign]
    node.put(b"a")
    with pytest.raises(errors.Stopped):
        await asyncio.wait_for(client.task, 5)


async def test_a_lost_leader_ends_those_who_require_one(node: Node) -> None:
    strict, other = node.client({"hasleader": "true"}), node.client({"hasleader": "false"})
    await strict.created(b"a")
    await other.created(b"a")
    strict.call.window.clear()  # even one whose client does not read
    node.put(b"a")
    node.service.leader_lost()
    with pytest.raises(errors.NoLeader):
        await asyncio.wait_for(strict.task, 5)
    assert (await other.next()).events
    node.has_leader = False
    with pytest.raises(errors.NoLeader):
        await node.client({"hasleader": "true"}).task
    await node.client().created(b"a")


async def test_a_stopping_server_ends_every_stream(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    node.hub.close()
    with pytest.raises(errors.Stopped):
        await asyncio.wait_for(client.task, 5)
    with pytest.raises(errors.Stopped):
        await node.client().task
