"""Tells ../story.txt with grpcio, call by call: `story.py ENDPOINT [CA CERTIFICATE KEY]`.

The store must be empty. Blocking code; it owns one channel.
"""

import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from kvshim.pb.etcd import kv_pb2
from kvshim.pb.etcd import rpc_pb2 as pb

SECONDS_MAX = 60.0
REPLY_BYTES_MAX = 64 << 20
DEADLINE_SECONDS = 2.0
HAS_LEADER = (("hasleader", "true"),)


class Client:
    """Calls by their full names."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def call(self, method: str, request: Any, reply: Any, **options: Any) -> Any:
        send = type(request).SerializeToString
        unary = self._channel.unary_unary(f"/etcdserverpb.{method}", send, reply.FromString)
        return unary(request, timeout=SECONDS_MAX, **options)

    def put(self, key: str, value: bytes, lease: int = 0, **options: Any) -> Any:
        request = pb.PutRequest(key=key.encode(), value=value, lease=lease)
        return self.call("KV/Put", request, pb.PutResponse, **options)

    def range(self, key: str, **fields: Any) -> Any:
        return self.call("KV/Range", pb.RangeRequest(key=key.encode(), **fields), pb.RangeResponse)

    def watch(self, key: str, timeout: float = SECONDS_MAX, **fields: Any) -> Any:
        """The stream, once the watch is created."""
        method = "/etcdserverpb.Watch/Watch"
        stream = self._channel.stream_stream(
            method, pb.WatchRequest.SerializeToString, pb.WatchResponse.FromString
        )
        create = pb.WatchCreateRequest(key=key.encode(), prev_kv=True, **fields)
        request = pb.WatchRequest(create_request=create)
        answers = stream(_and_wait(request), timeout=timeout, metadata=HAS_LEADER)
        assert next(answers).created
        return answers

    def keep_alive(self, lease: int) -> Any:
        """The stream of answers."""
        stream = self._channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            pb.LeaseKeepAliveRequest.SerializeToString,
            pb.LeaseKeepAliveResponse.FromString,
        )
        return stream(_and_wait(pb.LeaseKeepAliveRequest(ID=lease)), timeout=SECONDS_MAX)


def _and_wait(request: Any) -> Iterator[Any]:
    """A stream of requests that does not end."""
    yield request
    queue.SimpleQueue[None]().get(timeout=SECONDS_MAX)


def tell(client: Client) -> None:
    """The whole story, a fact a line."""
    keys(client)
    pages(client)
    watch(client)
    lease(client)
    compaction(client)
    large(client)
    put = client.put("led", b"x", metadata=HAS_LEADER)
    print(f"leader: put at revision {put.header.revision}")
    deadline(client)
    cancelled(client)


def keys(client: Client) -> None:
    put = client.put("greeting", b"hello")
    print(f"put: revision {put.header.revision}")
    got = client.range("greeting")
    [kv] = got.kvs
    print(
        f"get: {kv.key.decode()}={kv.value.decode()} created {kv.create_revision} "
        f"modified {kv.mod_revision} version {kv.version}, count {got.count}, more {word(got.more)}"
    )
    guard = pb.Compare(
        target=pb.Compare.MOD,
        result=pb.Compare.EQUAL,
        key=b"greeting",
        mod_revision=put.header.revision,
    )
    change = pb.PutRequest(key=b"greeting", value=b"hello again")
    request = pb.TxnRequest(
        compare=[guard],
        success=[pb.RequestOp(request_put=change)],
        failure=[pb.RequestOp(request_range=pb.RangeRequest(key=b"greeting"))],
    )
    first, again = (client.call("KV/Txn", request, pb.TxnResponse) for _ in range(2))
    [found] = again.responses[0].response_range.kvs
    print(
        f"guarded: first {word(first.succeeded)} at revision {first.header.revision}, "
        f"again {word(again.succeeded)}, found {found.value.decode()} modified {found.mod_revision}"
    )


def pages(client: Client) -> None:
    for half in range(2):
        puts = [pb.PutRequest(key=b"page/%03d" % (125 * half + i), value=b"x") for i in range(125)]
        operations = [pb.RequestOp(request_put=put) for put in puts]
        client.call("KV/Txn", pb.TxnRequest(success=operations), pb.TxnResponse)
    start, revision, more = "page/", 0, True
    while more:
        page = client.range(start, range_end=b"page0", limit=100, revision=revision)
        first, last = page.kvs[0].key.decode(), page.kvs[-1].key.decode()
        revision, more, start = page.header.revision, page.more, f"{last}\0"
        print(f"page: {len(page.kvs)} keys from {first}, count {page.count}, more {word(more)}")


def watch(client: Client) -> None:
    answers = client.watch("watched", start_revision=6)
    client.put("watched", b"1")
    client.put("watched", b"2")
    delete = pb.DeleteRangeRequest(key=b"watched")
    client.call("KV/DeleteRange", delete, pb.DeleteRangeResponse)
    seen: list[str] = []
    while len(seen) < 3:
        seen += map(describe, next(answers).events)
    answers.cancel()
    for event in seen:
        print(f"watch: {event}")


def describe(event: Any) -> str:
    before = event.prev_kv.value.decode() if event.HasField("prev_kv") else "none"
    is_put = event.type == kv_pb2.Event.PUT
    what = f"PUT {event.kv.value.decode()}" if is_put else "DELETE"
    return f"{what} at {event.kv.mod_revision}, before {before}"


def lease(client: Client) -> None:
    granted = client.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=60), pb.LeaseGrantResponse)
    client.put("leased", b"x", lease=granted.ID)
    beats = client.keep_alive(granted.ID)
    kept = next(beats)
    beats.cancel()
    asked = pb.LeaseTimeToLiveRequest(ID=granted.ID, keys=True)
    left = client.call("Lease/LeaseTimeToLive", asked, pb.LeaseTimeToLiveResponse)
    [held] = left.keys
    print(f"lease: granted {left.grantedTTL}, kept alive {kept.TTL}, holds {held.decode()}")
    answers = client.watch("leased", start_revision=10)
    client.call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=granted.ID), pb.LeaseRevokeResponse)
    print(f"lease: revoked, {describe(next(answers).events[0])}")
    answers.cancel()


def compaction(client: Client) -> None:
    client.call("KV/Compact", pb.CompactionRequest(revision=8), pb.CompactionResponse)
    try:
        client.range("greeting", revision=3)
    except grpc.RpcError as refused:
        print(f"compacted: {refused.details()}")
    answers = client.watch("greeting", start_revision=3)
    ended = next(answers)
    assert ended.canceled
    print(f"compacted: watch cancelled, compacted at {ended.compact_revision}")
    answers.cancel()


def large(client: Client) -> None:
    value = b"\x07" * (1 << 20)
    for number in range(9):
        client.put(f"large/{number}", value)
    got = client.range("large/", range_end=b"large0")
    sevens = sum(kv.value.count(7) for kv in got.kvs)
    print(f"large: {len(got.kvs)} values, {sevens} bytes of 7")


def deadline(client: Client) -> None:
    print(f"deadline: {end_of(client.watch('silent', DEADLINE_SECONDS))}")


def cancelled(client: Client) -> None:
    answers = client.watch("silent")
    answers.cancel()
    print(f"cancel: {end_of(answers)}, then count {client.range('greeting').count}")


def end_of(answers: Any) -> str:
    """The status with which a stream ends that should say no more."""
    try:
        return f"unexpected {next(answers)}"
    except grpc.RpcError as ended:
        return str(ended.code().name)


def word(truth: bool) -> str:
    return str(truth).lower()


def connect(arguments: list[str]) -> grpc.Channel:
    options = [("grpc.max_receive_message_length", REPLY_BYTES_MAX)]
    target = arguments[0].partition("://")[2]
    if len(arguments) == 1:
        return grpc.insecure_channel(target, options)
    ca, certificate, key = (Path(name).read_bytes() for name in arguments[1:])
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, certificate), options)


if __name__ == "__main__":
    with connect(sys.argv[1:]) as channel:
        tell(Client(channel))
