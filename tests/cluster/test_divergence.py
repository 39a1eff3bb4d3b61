"""Members that hold different data: found, named, mended; nothing is lost, nobody is blamed."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.clients import Traffic, client
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.conftest import FormCluster
from tests.cluster.member import Member
from tests.cluster.test_kills import settle
from tests.support.program import KVSHIM

SECONDS_MAX = 60.0


def alarms(cluster: Cluster) -> set[tuple[int, int]]:
    """(member, kind), as the leader knows them."""
    with client(cluster.wait_leader().target) as etcd:
        answer = etcd.call("etcdserverpb.Maintenance/Alarm", pb.AlarmRequest(), pb.AlarmResponse)
    return {(alarm.memberID, alarm.alarm) for alarm in answer.alarms}


def id_of(member: Member) -> int:
    status = wait_for(member.status, SECONDS_MAX, member.tail)
    return int(status.header.member_id)


def store_of(member: Member) -> Path:
    (path,) = member.data_dir.rglob("kv-*.db")
    return path


def change(member: Member, statement: str) -> None:
    """Change what a member stores behind its back, as a bug or a bad disk would."""
    outside = apsw.Connection(str(store_of(member)))
    try:
        outside.set_busy_timeout(10_000)
        outside.execute(statement).fetchall()
        assert outside.changes() == 1
    finally:
        outside.close()


CHANGE = "UPDATE history SET value = CAST('wrong' AS BLOB) WHERE key = CAST('victim' AS BLOB)"


def put(target: str, key: bytes, value: bytes) -> None:
    with client(target) as etcd:
        etcd.put(key, value)


def repair(at: Member, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(KVSHIM), "repair", f"--data-dir={at.data_dir}", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def lines(member: Member, text: str) -> list[dict[str, Any]]:
    found = []
    for line in member.log.read_text(errors="replace").splitlines():
        if text in line and line.startswith("{"):
            found.append(json.loads(line))
    return found


def writable(cluster: Cluster) -> bool | None:
    try:
        put(cluster.wait_leader().target, b"after", b"x")
    except grpc.RpcError:
        return None
    return True


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_a_changed_value_raises_the_alarm_and_repair_ends_it(form: FormCluster, who: str) -> None:
    # Given three members and a value that somebody changes on one of them while it runs
    cluster = form(3, "--corrupt-check-time=1s")
    leader = cluster.wait_leader()
    put(leader.target, b"victim", b"right")
    victim = leader if who == "leader" else cluster.followers()[0]
    named = id_of(victim)
    cluster.wait_same_revision()
    change(victim, CHANGE)
    # Then the alarm names it, everywhere, and nothing is written any more
    wait_for(lambda: {(named, pb.CORRUPT)} == alarms(cluster) or None, SECONDS_MAX, cluster.tails)
    with pytest.raises(grpc.RpcError) as refused:
        put(cluster.wait_leader().target, b"other", b"x")
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS
    assert refused.value.details() == "etcdserver: corrupt cluster"
    status, body = victim.page("/readyz?verbose")
    assert status == 503
    assert "[-]data_corruption failed: alarm activated: CORRUPT" in body
    # When the operator has it repaired, from a node of his choice
    at = victim if who == "follower" else next(m for m in cluster.members if m is not victim)
    done = repair(at, *([] if at is victim else ["--member", victim.name]))
    # Then all are equal again, and writes go on
    assert done.returncode == 0, done.stderr + cluster.tails()
    assert "equal to the others'" in done.stdout
    assert alarms(cluster) == set()
    assert wait_for(lambda: writable(cluster), SECONDS_MAX, cluster.tails)
    revision = cluster.wait_same_revision()
    assert len(set(cluster.hashes(revision))) == 1
    with client(victim.target) as etcd:
        request = pb.RangeRequest(key=b"victim", serializable=True)
        answer = etcd.call("etcdserverpb.KV/Range", request, pb.RangeResponse)
        assert answer.kvs[0].value == b"right"
    assert lines(victim, "replaced the store by the leader's")


def test_a_wrong_outcome_of_apply_is_seen_within_seconds(form: FormCluster) -> None:
    """What the log did differs, although nobody reads what is stored."""
    cluster = form(3)
    victim = cluster.followers()[0]
    named = id_of(victim)
    put(victim.target, b"counted", b"1")
    cluster.wait_same_revision()
    change(victim, "UPDATE kv SET version = 7 WHERE key = CAST('counted' AS BLOB)")
    change(victim, "UPDATE history SET version = 7 WHERE key = CAST('counted' AS BLOB)")
    with client(cluster.wait_leader().target) as etcd:
        for number in range(150):
            with suppress(grpc.RpcError):  # once the alarm stands
                etcd.put(b"counted", b"%d" % number)
    wait_for(lambda: {(named, pb.CORRUPT)} == alarms(cluster) or None, SECONDS_MAX, cluster.tails)
    leader = cluster.wait_leader()
    (line,) = lines(leader, "members hold different data")
    assert line["point"].startswith("log segment")
    done = repair(victim)
    assert done.returncode == 0, done.stderr + cluster.tails()
    assert wait_for(lambda: writable(cluster), SECONDS_MAX, cluster.tails)


def test_a_bad_page_is_mended_by_itself(form: FormCluster) -> None:
    # Given a member that is started on a store of which a page was overwritten
    cluster = form(3, "--scrub-interval=1s")
    leader = cluster.wait_leader()
    with client(leader.target) as etcd:
        for number in range(200):
            etcd.put(b"page%03d" % number, b"content %03d " % number * 100)
    victim = cluster.followers()[0]
    cluster.wait_same_revision()
    victim.stop()
    path = store_of(victim)
    data = bytearray(path.read_bytes())
    at = data.index(b"content 100 " * 2) // 8192 * 8192
    data[at : at + 8192] = bytes((7 * n + 13) % 256 for n in range(8192))
    path.write_bytes(data)
    cluster.restart(victim)
    # Then it gets its store anew without being told, and never an alarm
    wait_for(
        lambda: lines(victim, "replaced the store by the leader's") or None,
        SECONDS_MAX,
        cluster.tails,
    )
    assert lines(victim, "replacing the store by the leader's")
    put(cluster.wait_leader().target, b"after", b"x")
    revision = cluster.wait_same_revision()
    assert len(set(cluster.hashes(revision))) == 1
    assert alarms(cluster) == set()
    assert not any(lines(member, "alarm raised") for member in cluster.members)


def test_a_repair_under_load_loses_nothing(form: FormCluster, seed: int) -> None:
    cluster = form(3)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(100, SECONDS_MAX)
        for victim in (cluster.followers()[0], cluster.wait_leader()):
            done = repair(victim)
            assert done.returncode == 0, done.stderr + cluster.tails()
            traffic.wait_writes(50, SECONDS_MAX)
        settle(cluster, traffic)
    assert alarms(cluster) == set()


def test_nobody_is_blamed_under_load(form: FormCluster, seed: int, trouble_seconds: float) -> None:
    """Compactions, restarts, members that lag, all compared all the time."""
    cluster = form(
        3,
        "--corrupt-check-time=1s",
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=200",
    )
    with Traffic(cluster.targets(), seed) as traffic:
        for _ in range(2):
            traffic.wait_writes(150, SECONDS_MAX)
            victim = cluster.followers()[0]
            victim.kill()
            traffic.wait_writes(150, SECONDS_MAX)
            cluster.restart(victim)
            cluster.wait_leader(everyone=True)
        traffic.wait_writes(int(20 * trouble_seconds), SECONDS_MAX)
        settle(cluster, traffic)
    assert alarms(cluster) == set()
    assert not any(lines(member, "members hold different data") for member in cluster.members)


def test_of_two_who_differ_nobody_is_named_and_the_operator_chooses(form: FormCluster) -> None:
    cluster = form(2, "--corrupt-check-time=1s")
    put(cluster.wait_leader().target, b"victim", b"right")
    (victim,) = cluster.followers()
    cluster.wait_same_revision()
    change(victim, CHANGE)
    wait_for(lambda: {(0, pb.CORRUPT)} == alarms(cluster) or None, SECONDS_MAX, cluster.tails)
    done = repair(cluster.wait_leader(), "--member", f"{id_of(victim):x}")
    assert done.returncode == 0, done.stderr + cluster.tails()
    assert alarms(cluster) == set()
    assert wait_for(lambda: writable(cluster), SECONDS_MAX, cluster.tails)
    assert len(set(cluster.hashes(cluster.wait_same_revision()))) == 1


def test_damage_that_stops_apply_is_mended_under_load(form: FormCluster, seed: int) -> None:
    """SQLite cannot read the page that the next write needs: the member waits and goes on."""
    cluster = form(3)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(100, SECONDS_MAX)
        victim = cluster.followers()[0]
        victim.stop()
        store = store_of(victim)
        outside = apsw.Connection(str(store))
        ((root,),) = outside.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'kv'")
        page_bytes = outside.pragma("page_size")
        outside.close()
        data = bytearray(store.read_bytes())
        data[(root - 1) * page_bytes] = 0xEE  # no kind of page
        store.write_bytes(data)
        cluster.restart(victim)
        wait_for(
            lambda: lines(victim, "replaced the store by the leader's") or None,
            SECONDS_MAX,
            cluster.tails,
        )
        traffic.wait_writes(100, SECONDS_MAX)
        settle(cluster, traffic)
    assert alarms(cluster) == set()


def test_a_sole_member_is_told_that_there_is_no_other_store(form: FormCluster) -> None:
    cluster = form(1)
    done = repair(cluster.members[0])
    assert done.returncode == 1
    assert done.stderr == (
        "kvshim: this is the only member, so there is no other store to take: restore a backup\n"
    )
