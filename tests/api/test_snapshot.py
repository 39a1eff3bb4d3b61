"""Maintenance.Snapshot: pieces that say how much is left, a version, and the sum of all."""

import base64
import hashlib
import json
import time
import urllib.request

import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb

SECONDS_MAX = 20.0
SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"


def snapshot(etcd):
    method = etcd.channel.unary_stream(
        SNAPSHOT,
        request_serializer=pb.SnapshotRequest.SerializeToString,
        response_deserializer=pb.SnapshotResponse.FromString,
    )
    return method(pb.SnapshotRequest(), timeout=SECONDS_MAX)


def test_the_last_message_is_the_sum_of_the_others(etcd, prefix):
    for number in range(30):
        etcd.put(prefix + b"%d" % number, b"v" * 5000)
    *pieces, last = snapshot(etcd)
    data = b"".join(piece.blob for piece in pieces)
    assert last.blob == hashlib.sha256(data).digest()
    assert last.remaining_bytes == 0
    left = len(data)
    for piece in pieces:
        left -= len(piece.blob)
        assert piece.remaining_bytes == left
    assert len(data) % 4096 == 0
    assert max(len(piece.blob) for piece in pieces) == 32 * 1024
    assert {piece.version for piece in (*pieces, last)} == {etcd.status().storageVersion}
    assert not any(piece.HasField("header") for piece in pieces)


@pytest.mark.usefixtures("_http")
def test_the_gateway_streams_it_as_lines(etcd, server):
    etcd.put(b"through the gateway", b"v" * 100_000)
    url = f"{server.client_url}/v3/maintenance/snapshot"
    with urllib.request.urlopen(url, b"{}", timeout=SECONDS_MAX) as answer:
        *pieces, last = (json.loads(line)["result"] for line in answer)
    data = b"".join(base64.b64decode(piece["blob"]) for piece in pieces)
    assert base64.b64decode(last["blob"]) == hashlib.sha256(data).digest()
    assert int(pieces[0]["remaining_bytes"]) == len(data) - 32 * 1024
    assert b"through the gateway" in data


def test_clients_may_leave_in_the_middle(etcd, prefix):
    for number in range(40):
        etcd.put(prefix + b"%d" % number, b"v" * 50_000)
    for _ in range(5):
        half = snapshot(etcd)
        next(half)
        half.cancel()
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            assert len(list(snapshot(etcd))) > 40
            return
        except grpc.RpcError as error:  # a moment passes until the server knows that they left
            if (
                error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
                or time.monotonic() > deadline
            ):
                raise


@pytest.mark.kvshim_only
def test_there_are_few_at_once(launch):
    etcd = launch()
    for number in range(40):
        etcd.put(b"%d" % number, b"v" * 200_000)
    held = [snapshot(etcd) for _ in range(2)]
    for one in held:
        next(one)
    with pytest.raises(grpc.RpcError) as caught:
        list(snapshot(etcd))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "etcdserver: too many requests"
    etcd.put(b"meanwhile")  # nobody else waits for them
    for one in held:
        assert len(list(one)) > 200
