"""The majority is lost for good: one command on a survivor, and the others join it anew.

Real processes, formed by flags and by `kvshim join`. What the steps of the command leave behind
when they are cut short is in tests/node/test_recovery.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from kvshim.mvcc.store import REVISIONS_SKIPPED
from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.clients import client
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.conftest import FormCluster
from tests.cluster.member import Member
from tests.cluster.test_join import Node, command, until
from tests.cluster.test_membership import add_learner, promote
from tests.support.grpc_client import EtcdClient
from tests.support.program import KVSHIM

PREFIX = b"/registry/"
WRITES = 150
SECONDS_MAX = 40.0


def recover(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(KVSHIM), "recover", "--from-this-node", "--data-dir", str(data_dir), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write(etcd: EtcdClient) -> dict[bytes, int]:
    """Acknowledged writes, and their revisions."""
    return {
        key: etcd.put(key, b"acknowledged").header.revision
        for key in (PREFIX + b"%03d" % number for number in range(WRITES))
    }


def assert_goes_on_above(etcd: EtcdClient, acknowledged: dict[bytes, int], seen: int) -> None:
    """As an informer finds it: nothing it knows is used again, and it must list anew.

    `seen` is the newest revision that any client saw.
    """
    listed = etcd.list_prefix(PREFIX)
    base = listed.header.revision
    assert base >= seen + REVISIONS_SKIPPED - WRITES
    assert {kv.key: kv.mod_revision for kv in listed.kvs} == acknowledged
    with etcd.watch_stream() as stream:
        stream.send_create(PREFIX, b"0", start_revision=seen + 1)
        answers = [stream.next() for _ in range(2)]
        assert (answers[-1].canceled, answers[-1].compact_revision) == (True, base), answers
    with pytest.raises(grpc.RpcError) as refused:
        etcd.list_prefix(PREFIX, revision=seen)
    assert refused.value.details() == "etcdserver: mvcc: required revision has been compacted"
    with etcd.watch_stream() as stream:
        stream.create(PREFIX, b"0", start_revision=base + 1)
        assert etcd.put(PREFIX + b"new", b"value").header.revision == base + 1
        assert stream.events(1)[0].kv.mod_revision == base + 1
    assert etcd.hash_kv().compact_revision == base


def lines(log: Path, text: str) -> Sequence[str]:
    return [line for line in log.read_text(errors="replace").splitlines() if text in line]


def test_a_cluster_of_flags_goes_on_from_its_last_member(form: FormCluster) -> None:
    cluster = form(3)
    leader = cluster.wait_leader()
    others = cluster.followers()
    with client(leader.target) as etcd:
        acknowledged = write(etcd)
        lease = etcd.grant(600).ID
        etcd.put(b"leased", b"value", lease=lease)
        old_cluster = etcd.members().header.cluster_id
        seen = etcd.revision()
        for member in others:
            member.kill()
        put = pb.PutRequest(key=b"uncertain", value=b"kept")
        with pytest.raises(grpc.RpcError):  # in this log only, and never acknowledged
            etcd.call("etcdserverpb.KV/Put", put, pb.PutResponse, timeout=1.0)
    refused = recover(leader.data_dir, "--yes")
    assert (refused.returncode, "stop the node first" in refused.stderr) == (1, True)
    leader.kill()
    unasked = recover(leader.data_dir)
    assert (unasked.returncode, "nothing was changed" in unasked.stderr) == (1, True)
    done = recover(leader.data_dir, "--yes")
    assert done.returncode == 0, done.stderr
    assert "The last 1 entries of the log are kept" in " ".join(done.stdout.split())
    assert "etcdctl member add" in done.stdout

    cluster.members = [leader]
    cluster.restart(leader)
    cluster.wait_leader()
    with client(leader.target) as etcd:
        members = etcd.members()
        assert [m.name for m in members.members] == [leader.name]
        assert members.header.cluster_id != old_cluster
        assert etcd.range(b"uncertain").kvs[0].value == b"kept"
        assert 0 < etcd.time_to_live(lease, keys=True).TTL <= 600
        assert_goes_on_above(etcd, acknowledged, seen)
    assert_others_are_refused(cluster, leader, others)
    for number, name in enumerate("xy", start=2):
        newcomer = cluster._new_member(name)
        cluster.members.append(newcomer)
        with client(leader.target) as etcd:
            member_id = add_learner(etcd, newcomer)
            newcomer.start(cluster.initial_cluster(), "existing")
            wait_for(newcomer.status, SECONDS_MAX, cluster.tails)
            promote(etcd, member_id)
            assert sum(not m.isLearner for m in etcd.members().members) == number
    cluster.wait_same_revision()
    assert len(set(cluster.hashes(0))) == 1


def assert_others_are_refused(cluster: Cluster, survivor: Member, others: Sequence[Member]) -> None:
    """Together they are a majority of the old cluster and go on as that, but not with this one."""
    before = survivor.status()
    assert before is not None
    everyone = ",".join(f"{member.name}={member.peer_url}" for member in (survivor, *others))
    for member in others:
        member.start(everyone)
    for member in others:
        wait_for(
            lambda member=member: lines(member.log, "it is of cluster") or None,
            SECONDS_MAX,
            member.tail,
        )
    wait_for(
        lambda: lines(survivor.log, "a connection between members was refused") or None,
        SECONDS_MAX,
        survivor.tail,
    )
    with client(survivor.target) as etcd:
        etcd.put(b"undisturbed", b"value")
        status = etcd.status()
    assert (status.raftTerm, status.leader) == (before.raftTerm, before.leader)
    for member in others:
        assert lines(member.log, f"{before.header.cluster_id:x}"), member.tail()
        member.kill()
    assert len(lines(survivor.log, "a connection between members was refused")) <= 5


def test_a_cluster_that_was_joined_goes_on_with_its_ca(tmp_path: Path) -> None:
    nodes = [Node(tmp_path, name) for name in ("one", "two", "three", "four", "five")]
    try:
        _lose_and_recover(*nodes)
    finally:
        for node in nodes:
            node.kill()


def _lose_and_recover(one: Node, two: Node, three: Node, four: Node, five: Node) -> None:
    one.start()
    until(lambda: one.voters() == 1, "the first node does not come up")
    two.join(one.line_for_another())
    until(lambda: "two" in one.names(), "the second node does not join")
    three.join(one.line_for_another())
    until(lambda: one.voters() == 3, "the joined nodes get no votes")
    with client(f"127.0.0.1:{three.client}") as etcd:
        acknowledged = write(etcd)  # through this node: so its own store has them all
        seen = etcd.revision()
    until((three.data / "pki" / "ca.key").exists, "the third node gets no key of the CA")
    unused = one.line_for_another().split()[2].partition("#")[2]
    for node in (one, two, three):
        node.kill()
    done = recover(three.data, "--yes")
    assert done.returncode == 0, done.stderr
    assert "kvshim add-node" in done.stdout

    three.start()
    until(lambda: three.names() == {"three"}, "the recovered node does not come up")
    shown = json.loads(command("status", "--data-dir", str(three.data), "-o", "json"))
    assert shown["last_backup"]["kind"] == "recover"
    assert (Path(shown["last_backup"]["path"]) / "raft.db").exists()
    assert [each["kind"] for each in shown["certificates"]] == ["member", "CA"]
    table = command("status", "--data-dir", str(three.data))
    assert f"Last backup {shown['last_backup']['taken_at']}" in table
    assert f"member until {shown['certificates'][0]['not_after']}" in table
    with client(f"127.0.0.1:{three.client}") as etcd:
        assert_goes_on_above(etcd, acknowledged, seen)
    one.start()
    until(lambda: lines(one.log, "it is of cluster"), "the first node is not refused")
    one.kill()
    line = command("add-node", "--data-dir", str(three.data))
    address = line.split()[2].partition("#")[0]
    one.join(line)
    assert one.process is not None
    assert one.process.wait(SECONDS_MAX) == 1, "a node went on with the data of the old cluster"
    assert "was recovered: empty it and join anew" in one.log.read_text()
    spent = Node(two.data.parent, "six")
    spent.client, spent.peer, spent.metrics = two.client, two.peer, two.metrics
    spent.join(f"kvshim join {address}#{unused}")
    assert spent.process is not None
    assert spent.process.wait(SECONDS_MAX) == 1, "a token of before let somebody in"
    assert "not known or has expired" in spent.log.read_text()
    four.join(line)
    until(lambda: "four" in three.names(), "no new node joins")
    five.join(command("add-node", "--data-dir", str(three.data)))
    until(lambda: three.voters() == 3, "the new nodes get no votes")
    with client(f"127.0.0.1:{five.client}") as etcd:
        assert etcd.list_prefix(PREFIX).count == WRITES + 1
