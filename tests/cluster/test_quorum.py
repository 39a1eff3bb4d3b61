"""What a member says and does without a majority, and what a leader's loss does to leases."""

import time

import grpc
import pytest

from tests.cluster.clients import client
from tests.cluster.cluster import wait_for
from tests.cluster.conftest import FormCluster
from tests.support.grpc_client import EtcdClient

REQUEST_SECONDS_MAX = 7.0
"""etcd's request timeout with its own default election timeout: 5 s and two of them."""


def put_error(etcd: EtcdClient) -> tuple[grpc.RpcError, float]:
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as refused:
        etcd.put(b"key", b"refused")
    return refused.value, time.monotonic() - began


def test_without_a_majority_old_reads_go_on_and_writes_are_refused(form: FormCluster) -> None:
    cluster = form(3)
    leader = cluster.wait_leader()
    with client(leader.target) as etcd:
        etcd.put(b"key", b"value")
    others = cluster.followers()
    cluster.wait_same_revision()
    for member in others:
        member.kill()
    with client(leader.target) as etcd:
        error, seconds = put_error(etcd)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details() in {
            "etcdserver: request timed out",
            "etcdserver: request timed out, possibly due to previous leader failure",
            "etcdserver: request timed out, possibly due to connection lost",
            "etcdserver: leader changed",
        }
        assert seconds < REQUEST_SECONDS_MAX + 2
        assert etcd.range(b"key", serializable=True).kvs[0].value == b"value"
        status, page = leader.page("/readyz?verbose")
        assert (status, "linearizable_read failed" in page) == (503, True), page
        assert leader.page("/livez")[0] == 200
        with etcd.watch_stream() as stream:
            stream.create(b"key", start_revision=1)
            assert stream.next().events[0].kv.value == b"value"
        for member in others:
            cluster.restart(member)
        cluster.wait_leader(everyone=True)
        assert etcd.put(b"key", b"back").header.revision >= 3
        wait_for(lambda: leader.page("/readyz")[0] == 200 or None, 10, cluster.tails)


def test_a_lease_survives_its_leader(form: FormCluster) -> None:
    cluster = form(3)
    ttl = 6
    with client(cluster.members[0].target) as etcd:
        lease = etcd.grant(ttl).ID
        etcd.put(b"leased", b"value", lease=lease)
        granted = time.monotonic()
    leader = cluster.wait_leader()
    leader.kill()
    survivor = cluster.wait_leader(other_than=leader)
    with client(survivor.target) as etcd:
        left = etcd.time_to_live(lease)
        assert 0 < left.TTL <= ttl + 2
        assert etcd.range(b"leased").count == 1
        # Nobody keeps it alive, so it ends: not before its time, nor long after.
        wait_for(lambda: etcd.range(b"leased").count == 0 or None, 3 * ttl, cluster.tails)
        assert time.monotonic() - granted >= ttl
        assert etcd.time_to_live(lease).TTL == -1
