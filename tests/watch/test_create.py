"""Creating and cancelling watchers: what is answered, with which id, header and reason."""

import pytest

from kvshim.watch import outbox, stream
from tests.watch.conftest import Node


async def test_created_comes_first_with_the_present_revision(node: Node) -> None:
    node.put(b"a")
    client = node.client()
    response = await client.created(b"a")
    assert response.watch_id == 0
    assert response.header.revision == 2
    assert response.header.cluster_id == 7
    assert not response.canceled
    assert not response.events


async def test_created_tells_a_revision_that_is_committed_but_not_published(node: Node) -> None:
    """A client that read the commit must not see an older header, nor that event."""
    events = node.store.commit([(b"a", b"1")])
    client = node.client()
    assert (await client.created(b"a")).header.revision == 2
    node.hub.publish(node.store.revision, events)
    node.put(b"a", b"2")
    assert [event.kv.value for event in (await client.next()).events] == [b"2"]


async def test_ids_are_assigned_from_zero_around_chosen_ones(node: Node) -> None:
    client = node.client()
    assert (await client.created(b"a")).watch_id == 0
    assert (await client.created(b"a", watch_id=2)).watch_id == 2
    assert (await client.created(b"a", watch_id=-5)).watch_id == -5
    assert (await client.created(b"a")).watch_id == 1
    assert (await client.created(b"a")).watch_id == 3
    other = node.client()
    assert (await other.created(b"a")).watch_id == 0


async def test_a_taken_id_is_refused_and_the_first_watcher_lives_on(node: Node) -> None:
    client = node.client()
    await client.created(b"a", watch_id=4)
    refused = await client.created(b"b", watch_id=4)
    assert refused.watch_id == -1
    assert refused.canceled
    assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    assert refused.compact_revision == 0
    node.put(b"a")
    node.put(b"b")
    assert (await client.next()).events[0].kv.key == b"a"
    await client.silent()


@pytest.mark.parametrize(("key", "end"), [(b"b", b"a"), (b"b", b"b"), (b"b", b"\x00\x00")])
async def test_an_empty_range_is_refused(node: Node, key: bytes, end: bytes) -> None:
    node.put(b"a")
    refused = await node.client().created(key, end)
    assert (refused.watch_id, refused.canceled) == (-1, True)
    assert refused.cancel_reason == "mvcc: watcher range is empty"
    assert refused.header.revision == 2


async def test_a_negative_start_is_refused_as_compacted_without_a_revision(node: Node) -> None:
    refused = await node.client().created(b"a", start_revision=-1)
    assert (refused.watch_id, refused.canceled) == (-1, True)
    assert refused.cancel_reason == "etcdserver: mvcc: required revision has been compacted"
    assert refused.compact_revision == 0
    assert refused.header.revision == 1


async def test_an_empty_key_is_the_lowest_key(node: Node) -> None:
    client = node.client()
    await client.created(b"")
    node.put(b"\x00")
    node.put(b"\x00\x00")
    assert (await client.next()).events[0].kv.key == b"\x00"
    await client.silent()


async def test_an_empty_key_with_a_zero_end_is_everything(node: Node) -> None:
    client = node.client()
    await client.created(b"", b"\x00")
    for key in (b"\x00", b"a", b"\xff\xff"):
        node.put(key)
        assert (await client.next()).events[0].kv.key == key


async def test_cancel_is_answered_and_ends_the_events(node: Node) -> None:
    client = node.client()
    await client.created(b"a", watch_id=3)
    node.put(b"b")
    client.cancel(3)
    response = await client.next()
    assert (response.watch_id, response.canceled, response.created) == (3, True, False)
    assert response.header.revision == 2
    assert (response.cancel_reason, response.compact_revision) == ("", 0)
    node.put(b"a")
    await client.silent()
    assert (await client.created(b"a", watch_id=3)).watch_id == 3


async def test_cancelling_an_unknown_id_is_silence(node: Node) -> None:
    client = node.client()
    await client.created(b"a")
    client.cancel(17)
    client.cancel(-1)
    await client.silent()


async def test_a_request_without_content_is_ignored(node: Node) -> None:
    from kvshim.pb.etcd import rpc_pb2

    client = node.client()
    client.request(rpc_pb2.WatchRequest())
    assert (await client.created(b"a")).watch_id == 0


async def test_a_stream_has_a_limit_of_watchers(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WATCHERS_MAX", 2)
    client = node.client()
    await client.created(b"a")
    await client.created(b"a")
    refused = await client.created(b"a")
    assert (refused.watch_id, refused.canceled) == (-1, True)
    assert refused.cancel_reason == "etcdserver: too many requests"
    client.cancel(0)
    await client.next()
    assert not (await client.created(b"a")).canceled


async def test_a_stream_has_a_limit_of_key_bytes(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEY_BYTES_MAX", 100)
    client = node.client()
    await client.created(b"a" * 49)
    assert (await client.created(b"b" * 10)).canceled
    client.cancel(0)
    await client.next()
    assert not (await client.created(b"b" * 10)).canceled


async def test_requests_wait_while_their_answers_are_not_read(node: Node) -> None:
    """A client that only writes cannot fill the memory."""
    client = node.client()
    client.call.window.clear()
    for _ in range(outbox.NOTICES_MAX * 3):
        client.create(b"a")
    await client.silent()
    assert node.hub.watcher_count <= outbox.NOTICES_MAX
    client.call.window.set()
    ids = [(await client.next()).watch_id for _ in range(outbox.NOTICES_MAX * 3)]
    assert ids == list(range(outbox.NOTICES_MAX * 3))
