"""What a synced watcher is told, and what not."""

from typing import Any

import pytest

from kvshim.errors import KvshimError
from kvshim.pb.etcd import kv_pb2, rpc_pb2
from kvshim.types import Revision
from tests.watch.conftest import Created, Node


def told(response: rpc_pb2.WatchResponse) -> list[tuple[int, bytes, bytes]]:
    return [(e.kv.mod_revision, e.kv.key, e.kv.value) for e in response.events]


async def test_each_write_is_told_with_its_revision_in_the_header(node: Node) -> None:
    client = node.client()
    await client.created(b"a", watch_id=6)
    for value in (b"1", b"2", b"3"):
        node.put(b"a", value)
        response = await client.next()
        assert response.watch_id == 6
        assert response.header.revision == node.store.revision
        assert told(response) == [(node.store.revision, b"a", value)]


@pytest.mark.parametrize(
    ("key", "end", "inside"),
    [
        (b"b", b"", [b"b"]),
        (b"b", b"b\x00", [b"b"]),
        (b"b", b"c", [b"b", b"b\x00", b"ba"]),
        (b"b", b"\x00", [b"b", b"b\x00", b"ba", b"c", b"\xff"]),
        (b"\x00", b"\x00", [b"a", b"b", b"b\x00", b"ba", b"c", b"\xff"]),
    ],
)
async def test_ranges(node: Node, key: bytes, end: bytes, inside: list[bytes]) -> None:
    client = node.client()
    await client.created(key, end)
    keys = [b"a", b"b", b"b\x00", b"ba", b"c", b"\xff"]
    node.write([(each, b"v") for each in keys])
    assert [event.kv.key for event in (await client.next()).events] == inside


async def test_one_response_holds_a_batch_up_to_the_last_revision_that_matters(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    node.write([(b"a", b"1")], [(b"a", b"2"), (b"b", b"2")], [(b"b", b"3")])
    response = await client.next()
    assert told(response) == [(2, b"a", b"1"), (3, b"a", b"2")]
    assert response.header.revision == 3


async def test_a_future_start_skips_what_comes_before(node: Node) -> None:
    client = node.client()
    await client.created(b"a", start_revision=4)
    for value in (b"2", b"3", b"4", b"5"):
        node.put(b"a", value)
    assert told(await client.next())[0] == (4, b"a", b"4")


@pytest.mark.parametrize(
    ("filters", "kinds"),
    [
        ([Created.NOPUT], [kv_pb2.Event.DELETE]),
        ([Created.NODELETE], [kv_pb2.Event.PUT, kv_pb2.Event.PUT]),
        ([Created.NODELETE, 99], [kv_pb2.Event.PUT, kv_pb2.Event.PUT]),
        ([], [kv_pb2.Event.PUT, kv_pb2.Event.DELETE, kv_pb2.Event.PUT]),
    ],
)
async def test_filters_leave_out_a_kind(node: Node, filters: list[Any], kinds: list[Any]) -> None:
    client = node.client()
    await client.created(b"a", filters=filters)
    node.write([(b"a", b"1")], [(b"a", None)], [(b"a", b"2")])
    assert [event.type for event in (await client.next()).events] == kinds


async def test_a_response_emptied_by_filters_is_not_sent(node: Node) -> None:
    client = node.client()
    await client.created(b"a", filters=[Created.NOPUT, Created.NODELETE])
    node.put(b"a")
    node.delete(b"a")
    await client.silent()


async def test_prev_kv_only_for_those_who_ask(node: Node) -> None:
    client = node.client()
    await client.created(b"a", prev_kv=True)
    await client.created(b"a")
    node.put(b"a", b"1")
    node.put(b"a", b"2")
    node.delete(b"a")
    prev = []
    for _ in range(6):
        response = await client.next()
        for event in response.events:
            has_prev = event.HasField("prev_kv")
            if response.watch_id == 1:
                assert not has_prev
            else:
                prev.append(event.prev_kv.value if has_prev else None)
    assert prev == [None, b"1", b"2"]


async def test_a_delete_has_only_key_and_revision(node: Node) -> None:
    client = node.client()
    node.put(b"a", b"1")
    await client.created(b"a")
    node.delete(b"a")
    assert (await client.next()).events[0].kv == kv_pb2.KeyValue(key=b"a", mod_revision=3)


async def test_watchers_of_one_stream_are_told_each(node: Node) -> None:
    client = node.client()
    for key in (b"a", b"b", b"a"):
        await client.created(key)
    node.write([(b"a", b"1"), (b"b", b"1")])
    responses = [await client.next() for _ in range(3)]
    assert sorted((r.watch_id, r.events[0].kv.key) for r in responses) == [
        (0, b"a"),
        (1, b"b"),
        (2, b"a"),
    ]


async def test_publishing_out_of_order_is_refused(node: Node) -> None:
    events = node.store.commit([(b"a", b"1")])
    node.hub.publish(Revision(2), events)
    with pytest.raises(KvshimError):
        node.hub.publish(Revision(2), events)
    with pytest.raises(KvshimError):
        node.hub.publish(Revision(1), [])
    later = node.store.commit([(b"a", b"2")])
    with pytest.raises(KvshimError):
        node.hub.publish(Revision(2), later)


async def test_counts_for_metrics(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    await client.created(b"a", b"c")
    assert (node.hub.stream_count, node.hub.watcher_count) == (1, 2)
    client.call.window.clear()
    node.put(b"a")
    node.put(b"b")
    assert node.hub.pending_events == 3
    client.call.window.set()
    await client.next()
    await client.next()
    await client.silent(0)
    assert node.hub.pending_events == 0
    assert node.hub.events_total == 3
    client.call.window.clear()
    node.put(b"a")
    node.put(b"b")
    await client.gone()
    assert node.hub.pending_events == 0
