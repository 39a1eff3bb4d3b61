"""Every member gives a snapshot of its own store, and at one revision they hold the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from kvshim.bbolt.reader import BboltFile
from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.conftest import FormCluster
from tests.support.grpc_client import EtcdClient

SECONDS_MAX = 20.0
Buckets = dict[bytes, dict[bytes, bytes]]

OF_THE_MEMBER = b"meta"
"""What says how far its log has come."""


def test_members_agree(form: FormCluster, tmp_path: Path) -> None:
    cluster = form(3)
    clients = [EtcdClient(target) for target in cluster.targets()]
    lease = clients[0].grant(600).ID
    for number in range(90):
        clients[number % 3].put(b"k%d" % (number % 20), b"%d" % number, lease=lease * (number % 2))
    clients[1].delete(b"k3", b"k5")
    clients[2].compact(60)
    clients[0].put(b"last")
    cluster.wait_same_revision()
    found = [saved(client, tmp_path / "s.db") for client in clients]
    for client in clients:
        client.close()
    one = found[0]
    assert len(one[b"key"]) > 30
    assert len(one[b"lease"]) == 1
    for other in found:
        voters = json.loads(other[OF_THE_MEMBER][b"confState"])["voters"]
        assert voters == sorted(int(member, 16) for member in other[b"members"])
        assert len(voters) == 3
    for buckets in found:
        del buckets[OF_THE_MEMBER]
    assert found == [one, one, one]


def saved(etcd: EtcdClient, path: Path) -> Buckets:
    method = etcd.channel.unary_stream(
        "/etcdserverpb.Maintenance/Snapshot",
        request_serializer=pb.SnapshotRequest.SerializeToString,
        response_deserializer=pb.SnapshotResponse.FromString,
    )
    *pieces, last = method(pb.SnapshotRequest(), timeout=SECONDS_MAX)
    data = b"".join(piece.blob for piece in pieces)
    assert last.blob == hashlib.sha256(data).digest()
    path.write_bytes(data)
    with BboltFile.open(path) as file:
        return {name: dict(file.bucket(name)) for name in file.names()}
