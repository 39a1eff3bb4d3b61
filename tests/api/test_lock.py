"""Lock: a queue of keys under a name, which etcd's Go client and the service share."""

import time

import grpc
import pytest

from kvshim.pb.etcd import lock_pb2
from tests.api import ops
from tests.api.errors import ApiError, Code, refused
from tests.support.grpc_client import CALL_SECONDS_MAX, prefix_end

LOCK, UNLOCK = "v3lockpb.Lock/Lock", "v3lockpb.Lock/Unlock"
NO_LEASE = ApiError(Code.UNKNOWN, "etcdserver: requested lease not found")
NO_KEY = ApiError(Code.UNKNOWN, "etcdserver: key is not provided")
COMPACTED = ApiError(Code.UNKNOWN, "etcdserver: mvcc: required revision has been compacted")
EXPIRED = ApiError(Code.UNKNOWN, "mutex: session is expired")


def request(name, lease=0):
    return lock_pb2.LockRequest(name=name, lease=lease)


def lock(client, name, lease=0):
    return client.call(LOCK, request(name, lease), lock_pb2.LockResponse)


def lock_later(client, name, lease=0):
    return client.call_later(LOCK, request(name, lease), lock_pb2.LockResponse)


def unlock(client, key):
    return client.call(UNLOCK, lock_pb2.UnlockRequest(key=key), lock_pb2.UnlockResponse)


def queue(client, name):
    return [kv.key for kv in client.list_prefix(name + b"/").kvs]


def wait_for_queue(client, name, count):
    deadline = time.monotonic() + CALL_SECONDS_MAX
    while len(keys := queue(client, name)) != count:
        assert time.monotonic() < deadline, keys
        time.sleep(0.02)
    return keys


@pytest.fixture
def leases(etcd):
    made = [etcd.grant(1000).ID for _ in range(3)]
    yield made
    for lease in etcd.leases().leases:
        if lease.ID in made:
            etcd.revoke(lease.ID)


def test_a_free_lock_is_a_key_of_its_lease(etcd, prefix, leases):
    held = lock(etcd, prefix, leases[0])
    assert held.key == prefix + b"/%x" % leases[0]
    [kv] = etcd.range(held.key).kvs
    assert (kv.lease, kv.value, kv.version) == (leases[0], b"", 1)
    assert held.header.revision == kv.create_revision
    assert held.header.raft_term == etcd.status().raftTerm


def test_the_same_lease_holds_it_again_without_a_new_revision(etcd, prefix, leases):
    first, again = lock(etcd, prefix, leases[0]), lock(etcd, prefix, leases[0])
    assert first == again


def test_without_a_lease_the_server_grants_one_of_a_minute(etcd, prefix):
    held = lock(etcd, prefix)
    [kv] = etcd.range(held.key).kvs
    assert etcd.time_to_live(kv.lease).grantedTTL == 60
    assert held.key == prefix + b"/%x" % kv.lease
    etcd.revoke(kv.lease)


def test_locks_are_given_in_the_order_they_were_asked_for(etcd, prefix, leases):
    held = lock(etcd, prefix, leases[0])
    second = lock_later(etcd, prefix, leases[1])
    wait_for_queue(etcd, prefix, 2)
    third = lock_later(etcd, prefix, leases[2])
    wait_for_queue(etcd, prefix, 3)
    assert not second.done()
    released = unlock(etcd, held.key)
    given = second.result()
    assert given.header.revision >= released.header.revision
    assert not third.done()
    unlock(etcd, given.key)
    assert third.result().key == prefix + b"/%x" % leases[2]


def test_whoever_waits_behind_one_that_gave_up_waits_on(etcd, prefix, leases):
    held = lock(etcd, prefix, leases[0])
    second = lock_later(etcd, prefix, leases[1])
    wait_for_queue(etcd, prefix, 2)
    third = lock_later(etcd, prefix, leases[2])
    wait_for_queue(etcd, prefix, 3)
    second.cancel()
    assert wait_for_queue(etcd, prefix, 2) == sorted([held.key, prefix + b"/%x" % leases[2]])
    assert not third.done()
    etcd.revoke(leases[0])
    third.result()


def test_a_deadline_takes_the_key_out_of_the_queue(etcd, prefix, leases):
    held = lock(etcd, prefix, leases[0])
    with pytest.raises(grpc.RpcError) as caught:
        etcd.call(LOCK, request(prefix, leases[1]), lock_pb2.LockResponse, timeout=0.5)
    assert caught.value.code() == Code.DEADLINE_EXCEEDED
    assert wait_for_queue(etcd, prefix, 1) == [held.key]


def test_a_lock_ends_with_its_lease(etcd, prefix, leases):
    lock(etcd, prefix, leases[0])
    waiting = lock_later(etcd, prefix, leases[1])
    wait_for_queue(etcd, prefix, 2)
    etcd.revoke(leases[0])
    assert waiting.result().key == prefix + b"/%x" % leases[1]


def test_a_waiter_whose_own_lease_ended_is_told_so(etcd, prefix, leases):
    held = lock(etcd, prefix, leases[0])
    waiting = lock_later(etcd, prefix, leases[1])
    wait_for_queue(etcd, prefix, 2)
    etcd.revoke(leases[1])
    unlock(etcd, held.key)
    with refused(EXPIRED):
        waiting.result()


def test_only_keys_below_the_name_queue(etcd, prefix, leases):
    etcd.put(prefix, b"not in the queue")
    etcd.put(prefix + b"0", b"nor this")
    assert lock(etcd, prefix, leases[0]).key == prefix + b"/%x" % leases[0]


def test_the_older_key_of_a_client_recipe_comes_first(etcd, prefix, leases):
    etcd.put(prefix + b"/anything", b"")
    waiting = lock_later(etcd, prefix, leases[0])
    wait_for_queue(etcd, prefix, 2)
    etcd.txn([ops.delete(prefix, prefix_end(prefix + b"/"))])
    with refused(EXPIRED):  # the delete took the waiter's own key too
        waiting.result()


def test_unlocking_deletes_any_key_and_asks_nobody(etcd, prefix):
    etcd.put(prefix + b"/x")
    released = unlock(etcd, prefix + b"/x")
    assert released.header.revision == etcd.revision()
    assert unlock(etcd, prefix + b"/x").header.revision == released.header.revision


def test_what_is_refused(etcd, prefix):
    with refused(NO_LEASE):
        lock(etcd, prefix, 4711)
    with refused(NO_LEASE):
        lock(etcd, prefix, -1)
    with refused(NO_KEY):
        unlock(etcd, b"")


def test_an_empty_name_is_a_name(etcd, leases):
    held = lock(etcd, b"", leases[0])
    assert held.key == b"/%x" % leases[0]


def test_a_negative_lease_is_written_with_its_sign(etcd, prefix):
    lease = etcd.grant(100, -255).ID
    assert lock(etcd, prefix, lease).key == prefix + b"/-ff"
    etcd.revoke(lease)
