"""Members of several versions in one cluster: what waits, what is raised, who is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from kvshim.version import FORMAT_VERSION
from tests.cluster.clients import Traffic
from tests.cluster.cluster import wait_for
from tests.cluster.conftest import FormCluster
from tests.cluster.member import Member
from tests.cluster.test_join import Node, until
from tests.support.grpc_client import EtcdClient
from tests.support.previous import made_up_program

NEXT = FORMAT_VERSION + 1
NEWER = made_up_program(NEXT, compaction=NEXT)
"""To it, compacting is a new kind of command."""
OLDER = made_up_program(1)

RAISED_SECONDS_MAX = 20.0
REFUSED_SECONDS_MAX = 30.0


def restart_as(member: Member, program: tuple[str, ...], start: Callable[[Member], None]) -> None:
    member.stop()
    member.program = program
    start(member)


def status(member: Member) -> dict[str, Any]:
    command = "kvshim.cli.main", "status", "-o", "json", "--data-dir", str(member.data_dir)
    found = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    shown: dict[str, Any] = json.loads(found.stdout)
    return shown


def compact(member: Member) -> None:
    client = EtcdClient(member.target)
    try:
        client.compact(client.revision())
    finally:
        client.close()


def wait_version(member: Member, version: int) -> None:
    def look() -> bool | None:
        return status(member)["cluster_version"] == version or None

    wait_for(look, RAISED_SECONDS_MAX, lambda: f"{status(member)}\n{member.tail()}")


def content(directory: Path) -> dict[str, bytes]:
    """What the databases hold; SQLite's index of a WAL is made anew by whoever looks."""
    files = directory.glob("*.db*")
    return {file.name: file.read_bytes() for file in files if not file.name.endswith("-shm")}


def refused_start(member: Member, start: Callable[[Member], None]) -> str:
    """Start what must not start; what it said, in one line."""
    before = len(member.log.read_bytes()) if member.log.exists() else 0
    start(member)
    assert member.process is not None
    assert member.process.wait(REFUSED_SECONDS_MAX) == 1
    said = member.log.read_bytes()[before:].decode()
    assert "Traceback" not in said
    return said


def test_new_commands_wait_for_the_last_member_and_then_there_is_no_way_back(
    form: FormCluster, seed: int
) -> None:
    cluster = form(3)
    first, second, last = cluster.members
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(20, 30)
        wait_version(first, FORMAT_VERSION)
        for member in (first, second):
            restart_as(member, NEWER, cluster.restart)
            cluster.wait_leader(40, everyone=True)
        with pytest.raises(grpc.RpcError) as refused:
            compact(first)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert f"needs version {NEXT} of the cluster" in refused.value.details()
        shown = {m["name"]: m["program_version"] for m in status(first)["members"]}
        assert shown == {"a": NEXT, "b": NEXT, "c": FORMAT_VERSION}
        assert status(first)["cluster_version"] == FORMAT_VERSION

        restart_as(last, NEWER, cluster.restart)
        for member in cluster.members:
            wait_version(member, NEXT)
        compact(last)

        last.stop()
        last.program = ()
        before = content(last.data_dir)
        said = refused_start(last, cluster.restart)
        assert f"has format {NEXT}, this program knows up to {FORMAT_VERSION}" in said
        assert "use the newer program" in said
        assert content(last.data_dir) == before
        last.program = NEWER
        # Whoever watched from before the compaction may not: only the stores are compared.
        cluster.start_all()
        cluster.wait_leader(40, everyone=True)
        traffic.stop_clients()
        revision = cluster.wait_same_revision()
        assert len(set(cluster.hashes(revision))) == 1


def test_an_older_program_cannot_join(form: FormCluster, seed: int) -> None:
    cluster = form(3)
    leader = cluster.wait_leader()
    wait_version(leader, FORMAT_VERSION)
    newcomer = cluster.add_member()
    newcomer.program = OLDER
    client = EtcdClient(leader.target)
    try:
        add = pb.MemberAddRequest(peerURLs=[newcomer.peer_url], isLearner=True)
        client.call("etcdserverpb.Cluster/MemberAdd", add, pb.MemberAddResponse)
    finally:
        client.close()

    def start(member: Member) -> None:
        member.start(cluster.initial_cluster(), "existing")

    said = refused_start(newcomer, start)
    assert f"the cluster runs at version {FORMAT_VERSION}" in said
    assert "start the newer program on that node" in said
    newcomer.program = ()
    start(newcomer)
    cluster.wait_leader(40, everyone=True)


def test_an_older_program_cannot_join_by_a_token(tmp_path: Path) -> None:
    one, two = Node(tmp_path, "one"), Node(tmp_path, "two")
    try:
        one.start()
        until(lambda: one.voters() == 1, "the first node does not come up")
        word = one.line_for_another().split()[2]
        flags = "--data-dir", str(two.data), "--listen-peer-urls", f"https://127.0.0.1:{two.peer}"
        refused = subprocess.run(
            [*OLDER, "join", word, *flags],
            capture_output=True,
            check=False,
            text=True,
            timeout=REFUSED_SECONDS_MAX,
        )
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert f"the cluster runs at version {FORMAT_VERSION}" in refused.stderr
        assert "start the newer program on that node" in refused.stderr
        two.join(f"kvshim join {word}")
        until(lambda: "two" in one.names(), "the token is of no use any more")
    finally:
        one.kill()
        two.kill()
