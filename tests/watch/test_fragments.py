"""Large responses: split at revisions for all, within one only for those who ask."""

from itertools import pairwise

import pytest

from kvshim.pb.etcd import rpc_pb2
from kvshim.watch import batch
from tests.watch.conftest import Client, Node


@pytest.fixture
def max_response_bytes() -> int:
    return 1000


async def until_whole(client: Client) -> list[rpc_pb2.WatchResponse]:
    parts = [await client.next()]
    while parts[-1].fragment:
        parts.append(await client.next())
    return parts


async def test_a_large_revision_is_split_below_the_limit(node: Node) -> None:
    client = node.client()
    await client.created(b"a", b"b", fragment=True, watch_id=5)
    node.write([(b"a%02d" % n, b"x" * 100) for n in range(40)])
    parts = await until_whole(client)
    assert [p.fragment for p in parts] == [True] * (len(parts) - 1) + [False]
    assert all(p.ByteSize() < 1000 for p in parts)
    assert all(p.watch_id == 5 and p.header.revision == 2 for p in parts)
    keys = [event.kv.key for part in parts for event in part.events]
    assert keys == [b"a%02d" % n for n in range(40)]
    for part, following in pairwise(parts):
        assert part.ByteSize() + following.events[0].ByteSize() + 2 >= 1000, "a part is too small"


async def test_a_response_below_the_limit_is_whole(node: Node) -> None:
    client = node.client()
    await client.created(b"a", b"b", fragment=True)
    node.write([(b"a1", b"x" * 100), (b"a2", b"x" * 100)])
    response = await client.next()
    assert not response.fragment
    assert len(response.events) == 2


async def test_an_event_above_the_limit_is_alone(node: Node) -> None:
    client = node.client()
    await client.created(b"a", b"b", fragment=True)
    node.write([(b"a1", b"x"), (b"a2", b"x" * 3000), (b"a3", b"x"), (b"a4", b"x" * 3000)])
    parts = await until_whole(client)
    assert [len(p.events) for p in parts] == [1, 1, 1, 1]
    node.write([(b"a1", b"x" * 3000)])
    assert not (await client.next()).fragment


async def test_who_does_not_ask_gets_a_revision_whole(node: Node) -> None:
    client = node.client()
    await client.created(b"a", b"b")
    node.write([(b"a%02d" % n, b"x" * 100) for n in range(40)])
    response = await client.next()
    assert not response.fragment
    assert len(response.events) == 40


@pytest.mark.parametrize("fragment", [True, False])
async def test_long_deliveries_end_at_revisions_and_promise_no_more(
    node: Node, monkeypatch: pytest.MonkeyPatch, fragment: bool
) -> None:
    monkeypatch.setattr(batch, "RESPONSE_BYTES_TARGET", 500)
    client = node.client()
    await client.created(b"a", b"b", fragment=fragment)
    node.write(*([(b"a%d" % n, b"x" * 200) for n in range(2)] for _ in range(5)))
    responses: list[rpc_pb2.WatchResponse] = []
    while sum(len(r.events) for r in responses) < 10:
        responses += await until_whole(client)
    assert len(responses) == 3
    assert [r.header.revision for r in responses] == [
        r.events[-1].kv.mod_revision for r in responses
    ]
    assert [r.header.revision for r in responses] == [3, 5, 6]
