"""Watchers that start in the past: from memory, from history, or not at all."""

import asyncio

import pytest

from kvshim.errors import StorageError
from kvshim.pb.etcd import rpc_pb2
from kvshim.watch import catchup, recent
from tests.watch.conftest import Client, Node


async def revisions(client: Client, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += [event.kv.mod_revision for event in (await client.next()).events]
    return found


@pytest.mark.parametrize("from_history", [True, False])
async def test_the_past_comes_packed_with_the_present_revision(
    node: Node, from_history: bool
) -> None:
    for value in (b"1", b"2", b"3"):
        node.put(b"a", value)
    node.put(b"b")
    if from_history:
        node.forget_recent()
    client = node.client()
    created = await client.created(b"a", start_revision=3, prev_kv=True)
    assert created.header.revision == 5
    response = await client.next()
    assert response.header.revision == 5
    assert [e.kv.value for e in response.events] == [b"2", b"3"]
    assert [e.prev_kv.value for e in response.events] == [b"1", b"2"]
    assert node.store.reads == from_history
    node.put(b"a", b"4")
    assert [e.kv.value for e in (await client.next()).events] == [b"4"]
    await client.silent()


async def test_a_past_without_events_is_silent_and_synced(node: Node) -> None:
    node.put(b"b")
    node.forget_recent()
    client = node.client()
    await client.created(b"a", start_revision=1)
    await client.silent()
    assert node.hub.slow_watcher_count == 0
    node.put(b"a")
    assert (await client.next()).events


async def test_a_compacted_start_is_created_then_cancelled(node: Node) -> None:
    for value in (b"1", b"2", b"3"):
        node.put(b"a", value)
    node.store.compact(4)
    client = node.client()
    created = await client.created(b"a", start_revision=3, watch_id=8)
    assert (created.watch_id, created.canceled, created.header.revision) == (8, False, 4)
    cancelled = await client.next()
    assert cancelled.canceled
    assert not cancelled.created
    assert cancelled.watch_id == 8
    assert cancelled.compact_revision == 4
    assert cancelled.cancel_reason == ""
    assert (cancelled.header.revision, cancelled.header.raft_term) == (0, 2)
    node.put(b"a")
    await client.silent()


async def test_a_compacted_watcher_keeps_its_id_until_cancelled(node: Node) -> None:
    node.write([(b"a", b"1")], [(b"a", b"2")])
    node.store.compact(3)
    client = node.client()
    await client.created(b"a", start_revision=2, watch_id=8)
    assert (await client.next()).compact_revision == 3
    assert (await client.created(b"a", watch_id=8)).canceled
    client.cancel(8)
    response = await client.next()
    assert (response.watch_id, response.canceled, response.compact_revision) == (8, True, 0)
    assert not (await client.created(b"a", watch_id=8)).canceled


async def test_a_start_at_the_compacted_revision_is_served_without_prev_kv(node: Node) -> None:
    node.put(b"a", b"1")
    node.delete(b"a")
    node.store.compact(3)
    node.put(b"a", b"2")
    client = node.client()
    await client.created(b"a", start_revision=3, prev_kv=True)
    response = await client.next()
    assert [e.kv.mod_revision for e in response.events] == [3, 4]
    assert not response.events[0].HasField("prev_kv")


async def test_long_histories_come_in_slices_of_whole_revisions(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "SLICE_BYTES", 1000)
    for _ in range(30):
        node.write([(b"a", b"x" * 100), (b"b", b"x" * 100)])
    node.forget_recent()
    client = node.client()
    await client.created(b"a", b"c", start_revision=2)
    found: list[tuple[int, bytes]] = []
    while len(found) < 60:
        response = await client.next()
        assert response.header.revision == 31
        found += [(e.kv.mod_revision, e.kv.key) for e in response.events]
        assert found[-1][1] == b"b", "a revision was split"
    assert found == [(r, k) for r in range(2, 32) for k in (b"a", b"b")]
    assert node.store.reads >= 5


async def test_writes_during_a_read_are_neither_lost_nor_repeated(node: Node) -> None:
    """Published before the snapshot, between snapshot and delivery, and committed only."""
    node.put(b"a", b"0")
    node.forget_recent()
    node.store.gate.clear()
    client = node.client()
    await client.created(b"a", start_revision=1)
    node.put(b"a", b"1")
    unpublished = node.store.commit([(b"a", b"2")])
    node.store.gate.set()
    assert await revisions(client, 3) == [2, 3, 4]
    node.hub.publish(node.store.revision, unpublished)
    node.put(b"a", b"3")
    assert await revisions(client, 1) == [5]
    await client.silent()


async def test_writers_never_keep_a_watcher_from_getting_synced(node: Node) -> None:
    """Every read ends behind the head; memory closes the gap in one step."""
    node.put(b"a")
    node.forget_recent()
    original = node.hub._feed

    def feed_late(piece: catchup.Slice, group: list) -> None:  # type: ignore[type-arg]
        node.put(b"a")
        original(piece, group)

    node.hub._catch_up._on_slice = feed_late  # type: ignore[assignment]
    client = node.client()
    await client.created(b"a", start_revision=1)
    assert await revisions(client, 2) == [2, 3]
    assert node.store.reads == 1
    assert node.hub.slow_watcher_count == 0


async def test_cancel_during_a_read(node: Node) -> None:
    node.put(b"a")
    node.forget_recent()
    node.store.gate.clear()
    client = node.client()
    await client.created(b"a", start_revision=1)
    assert node.hub.slow_watcher_count == 1
    client.cancel(0)
    assert (await client.next()).canceled
    assert node.hub.slow_watcher_count == 0
    node.store.gate.set()
    await client.silent()


async def test_many_watchers_share_reads(node: Node) -> None:
    for number in range(200):
        node.put(b"%03d" % number)
    node.forget_recent()
    node.store.gate.clear()
    client = node.client()
    for number in range(200):
        await client.created(b"%03d" % number, start_revision=1 + number % 3)
    await client.created(b"100", b"\x00", start_revision=150)
    node.store.gate.set()
    seen: dict[int, list[bytes]] = {}
    for _ in range(201):
        response = await client.next()
        seen[response.watch_id] = [event.kv.key for event in response.events]
    assert seen.pop(200) == [b"%03d" % n for n in range(148, 200)]
    assert seen == {n: [b"%03d" % n] for n in range(200)}
    assert node.store.reads < 10


async def test_a_far_watcher_does_not_hold_up_a_near_one(node: Node) -> None:
    node.put(b"a")
    for _ in range(catchup.GROUP_SPREAD_REVISIONS + 10):
        node.put(b"b", b"")
    node.forget_recent()
    near, far = node.client(), node.client()
    node.store.gate.clear()
    for client, start in ((far, 1), (near, int(node.store.revision))):
        await client.created(b"b", start_revision=start)
    node.store.gate.set()
    assert len((await near.next()).events) == 1
    assert len(await revisions(far, 1010)) == 1010
    assert node.store.reads == 2


async def test_a_failed_read_ends_the_stream_and_is_logged(node: Node) -> None:
    node.put(b"a")
    node.forget_recent()
    node.store.failure = StorageError("the disk is gone")
    client = node.client()
    await client.created(b"a", start_revision=1)
    with pytest.raises(StorageError):
        await asyncio.wait_for(client.task, 5)
    assert node.log.lines[0][1]["error"] == "the disk is gone"


async def test_memory_is_bounded_and_forgets_whole_revisions(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "RECENT_EVENTS_MAX", 10)
    for _ in range(4):
        node.write([(b"a", b"1"), (b"b", b"1"), (b"c", b"1")])
    kept = node.hub._recent
    assert kept.floor == 2
    assert len(kept._events) == 9
    assert not kept.covers(kept.floor)
    monkeypatch.setattr(recent, "RECENT_BYTES_MAX", 1000)
    node.put(b"a", b"x" * 2000)
    assert not kept._events
    assert kept._bytes == 0
    assert kept.floor == node.store.revision
    client = node.client()
    await client.created(b"a", start_revision=2)
    assert await revisions(client, 5) == [2, 3, 4, 5, 6]


async def test_a_restored_store_sends_everyone_back_to_history(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    await client.created(b"a", start_revision=6)
    node.put(b"a", b"1")
    assert (await client.next()).watch_id == 0
    node.store.commit([(b"a", b"2")], [(b"a", b"3")])  # the snapshot is ahead of what was published
    node.hub.restored(node.store.revision)
    assert node.hub.revision == 4
    assert await revisions(client, 2) == [3, 4]
    node.put(b"a", b"4")
    assert (await client.next()).watch_id == 0
    node.put(b"a", b"5")
    responses: list[rpc_pb2.WatchResponse] = [await client.next() for _ in range(2)]
    assert {(r.watch_id, r.events[0].kv.value) for r in responses} == {(0, b"5"), (1, b"5")}
    await client.silent()
