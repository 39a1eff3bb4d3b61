"""All that a client can learn of a store, to compare two of them, and a past worth comparing.

`fill` makes a seeded history: keys put and deleted, several in one transaction and one twice,
leases, a compaction at a deletion's revision. What is not compared is what no file carries: how
much of a lease's time is left, ids of members, terms.
"""

import random
from dataclasses import dataclass

import grpc

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.support.grpc_client import ALL, EtcdClient

FIRST = b"\x00"


@dataclass(frozen=True, slots=True)
class Content:
    """What is there, and what can still be seen of the past."""

    revision: int
    first_readable: int
    pairs: dict[int, bytes]
    """By revision: the encoded pairs of all keys, and their number."""
    events: list[tuple[bytes, int]]
    """Each event of the readable past, encoded, with previous pairs."""
    leases: dict[int, tuple[int, tuple[bytes, ...]]]
    """Granted TTL and keys."""
    hashes: dict[int, tuple[int, int, int]]
    """HashKV behind the compact revision."""


def content(etcd: EtcdClient) -> Content:
    revision = etcd.revision()
    first = first_readable(etcd, revision)
    readable = range(first, revision + 1)
    return Content(
        revision,
        first,
        {at: _pairs(etcd, at) for at in readable},
        _events(etcd, first, revision),
        {lease.ID: _lease(etcd, lease.ID) for lease in etcd.leases().leases},
        {at: _hash(etcd, at) for at in readable if at > first or first == 1},
    )


def first_readable(etcd: EtcdClient, revision: int) -> int:
    """The compact revision, or 1 if there never was a compaction."""
    low, high = 1, revision
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _readable(etcd, middle) else (middle + 1, high)
    return low


def fill(etcd: EtcdClient, seed: int, changes: int = 150) -> None:
    """Give a fresh store a past; says the seed."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    leases = [etcd.grant(ttl).ID for ttl in (600, 3600, 3600)]
    keys = [b"k/%d" % number for number in range(12)]
    for number in range(changes):
        key = chance.choice(keys)
        match chance.randrange(8):
            case 0 | 1:
                etcd.delete(key)
            case 2:
                etcd.txn([_put(other, b"t%d" % number) for other in chance.sample(keys, 3)])
            case 3:
                etcd.txn([_nested(_put(key, b"gone")), _nested(_delete(key))])
            case 4:
                etcd.put(key, b"%d" % number, lease=chance.choice(leases))
            case 5:
                etcd.put(key, bytes([number % 256]) * chance.choice((0, 1, 4000, 70_000)))
            case _:
                etcd.put(key, b"v%d" % number)
        if number == changes // 2:
            etcd.put(b"to be deleted")
            etcd.delete(b"to be deleted")
            etcd.compact(etcd.revision())
    etcd.delete(b"k/1", b"k/2")
    for number, lease in enumerate((*leases, *leases)):
        etcd.put(b"leased/%d" % (number % 4), lease=lease)


def _put(key: bytes, value: bytes) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))


def _delete(key: bytes) -> pb.RequestOp:
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))


def _nested(op: pb.RequestOp) -> pb.RequestOp:
    return pb.RequestOp(request_txn=pb.TxnRequest(success=[op]))


def _readable(etcd: EtcdClient, revision: int) -> bool:
    try:
        etcd.range(b"x", revision=revision)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
            raise
        return False
    return True


def _pairs(etcd: EtcdClient, revision: int) -> bytes:
    found = etcd.range(FIRST, ALL, revision=revision)
    return pb.RangeResponse(kvs=found.kvs, count=found.count).SerializeToString()


def _events(etcd: EtcdClient, first: int, revision: int) -> list[tuple[bytes, int]]:
    """The last one is a put of its own, so that the end is known."""
    end = etcd.put(b"end of events").header.revision
    etcd.delete(b"end of events")
    found = []
    with etcd.watch_stream() as stream:
        stream.create(FIRST, ALL, start_revision=first, prev_kv=True)
        while True:
            for event in stream.next().events:
                if event.kv.mod_revision == end:
                    return found
                found.append((event.SerializeToString(), event.kv.mod_revision))


def _lease(etcd: EtcdClient, lease: int) -> tuple[int, tuple[bytes, ...]]:
    found = etcd.time_to_live(lease, keys=True)
    return found.grantedTTL, tuple(sorted(found.keys))


def _hash(etcd: EtcdClient, revision: int) -> tuple[int, int, int]:
    found = etcd.hash_kv(revision)
    return found.hash, found.compact_revision, found.hash_revision
