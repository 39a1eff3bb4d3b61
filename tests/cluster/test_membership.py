"""Members come and go the etcd way while clients write: added as learner, promoted, removed."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.clients import Traffic, client
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.conftest import FormCluster
from tests.cluster.member import Member
from tests.cluster.test_kills import settle
from tests.support.datastore import REPOSITORY
from tests.support.grpc_client import EtcdClient

ETCDCTL = REPOSITORY / "build" / "etcdctl"
PROMOTE_SECONDS_MAX = 30.0
T = TypeVar("T")


NOT_YET = {
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: unhealthy cluster",
    "etcdserver: rpc not supported for learner",
}
"""The learner has to catch up, and to hear of it; etcd waits 5 s before it trusts connections."""


def until_it_may(call: Callable[[], T]) -> T:
    """What the call answers once the cluster no longer finds that it is too early."""

    def once() -> T | None:
        try:
            return call()
        except grpc.RpcError as error:
            if error.details() not in NOT_YET:
                raise
            time.sleep(0.1)
            return None

    return wait_for(once, PROMOTE_SECONDS_MAX, lambda: "it is never late enough")


def add_learner(etcd: EtcdClient, member: Member) -> int:
    request = pb.MemberAddRequest(peerURLs=[member.peer_url], isLearner=True)
    method = "etcdserverpb.Cluster/MemberAdd"
    answer = until_it_may(lambda: etcd.call(method, request, pb.MemberAddResponse))
    assert answer.member.isLearner
    return int(answer.member.ID)


def promote(etcd: EtcdClient, member_id: int) -> None:
    """Promote as soon as the cluster finds the learner ready."""
    request = pb.MemberPromoteRequest(ID=member_id)
    method = "etcdserverpb.Cluster/MemberPromote"
    until_it_may(lambda: etcd.call(method, request, pb.MemberPromoteResponse))


def remove(etcd: EtcdClient, member_id: int) -> None:
    request = pb.MemberRemoveRequest(ID=member_id)
    method = "etcdserverpb.Cluster/MemberRemove"
    until_it_may(lambda: etcd.call(method, request, pb.MemberRemoveResponse))


def join(cluster: Cluster, target: str) -> tuple[Member, int]:
    """A fourth member, from nothing to voter."""
    joiner = cluster.add_member()
    with client(target) as etcd:
        member_id = add_learner(etcd, joiner)
        joiner.start(cluster.initial_cluster(), "existing")
        wait_for(joiner.status, PROMOTE_SECONDS_MAX, cluster.tails)
        promote(etcd, member_id)
    return joiner, member_id


def test_a_member_joins_under_load_and_replaces_the_leader(form: FormCluster, seed: int) -> None:
    cluster = form(3)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(200, 30)
        leader = cluster.wait_leader()
        target = next(member.target for member in cluster.members if member is not leader)
        joiner, _ = join(cluster, target)
        with client(joiner.target) as etcd:
            voters = [m for m in until_it_may(etcd.members).members if not m.isLearner]
            assert len(voters) == 4
            status = leader.status()
            assert status is not None
            remove(etcd, status.header.member_id)
        # What is removed may end, as etcd does, or stay: either way the others go on.
        cluster.members.remove(leader)
        try:
            cluster.wait_leader()
            traffic.wait_writes(50, 30)
        finally:
            leader.kill()
        settle(cluster, traffic)


def test_a_member_far_behind_gets_the_store_again(form: FormCluster, seed: int) -> None:
    cluster = form(3, "--snapshot-catchup-entries=100", "--snapshot-count=200")
    with Traffic(cluster.targets(), seed, pause_seconds=0.001) as traffic:
        traffic.wait_writes(50, 30)
        victim = cluster.followers()[0]
        victim.kill()
        traffic.wait_writes(1500, 60)
        cluster.restart(victim)
        settle(cluster, traffic)


@pytest.mark.skipif(not ETCDCTL.exists(), reason="etcdctl is not built")
def test_etcdctl_shows_the_cluster(form: FormCluster) -> None:
    cluster = form(3)
    command = [str(ETCDCTL), f"--endpoints={cluster.members[1].client_url}", "-w", "json"]
    listed = subprocess.run(
        [*command, "member", "list"], capture_output=True, check=True, timeout=30
    )
    assert {m["name"] for m in json.loads(listed.stdout)["members"]} == {"a", "b", "c"}

    def all_published() -> list[dict[str, Any]] | None:
        done = subprocess.run(
            [*command, "endpoint", "status", "--cluster"],
            capture_output=True,
            check=False,
            timeout=30,
        )
        found = json.loads(done.stdout) if done.returncode == 0 else []
        return found if len(found) == 3 else None

    shown = wait_for(all_published, 20, cluster.tails)
    leaders = {one["Status"]["leader"] for one in shown}
    assert len(leaders) == 1
    moved_to = next(
        one["Status"]["header"]["member_id"]
        for one in shown
        if one["Status"]["header"]["member_id"] not in leaders
    )
    leader_url = cluster.wait_leader().client_url
    moved = subprocess.run(
        [str(ETCDCTL), f"--endpoints={leader_url}", "move-leader", f"{moved_to:x}"],
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert moved.returncode == 0, moved.stderr
    wait_for(
        lambda: ((s := cluster.wait_leader().status()) and s.leader == moved_to) or None,
        10,
        cluster.tails,
    )
