"""member add, update, promote and remove, and move-leader: ids are made from the time of day."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from conformance.etcdctl.pair import Answer, Pair, same
from conformance.servers import ETCDCTL, Datastore
from tests.cluster.cluster import Cluster
from tests.support.datastore import Kind

ID = re.compile(r" *\b[0-9a-f]{14,16}\b|\b\d{17,20}\b")
NEXT_SECOND = 1.1
"""etcd makes the id of a member of its addresses and the second, and that id may be taken."""

FAR = "http://127.0.0.1:13"
FARTHER = "http://127.0.0.1:17"


def run(pair: Pair, *arguments: str, fails: bool = False) -> Answer:
    """One command on both; `{id}` in it stands for the member on each side that was added."""
    answers = []
    for side in pair.sides:
        command = [argument.replace("{id}", added(side.store)) for argument in arguments]
        done = side.store.etcdctl(*command, check=False)
        stdout, stderr = (
            side.readable(text.encode()) for text in (in_order(done.stdout), done.stderr)
        )
        answers.append(Answer(done.returncode, without_ids(stdout), without_ids(stderr)))
    answer = same(" ".join(arguments), *answers)
    assert (answer.code != 0) is fails, answer
    return answer


def in_order(text: str) -> str:
    """Members are told in the order of their ids: that order says nothing."""
    if not text.startswith("{"):
        return text
    answer = json.loads(text)
    answer.get("members", []).sort(key=lambda member: member["peerURLs"])
    return json.dumps(answer, separators=(",", ":"))


def without_ids(text: str) -> str:
    """Neither ids nor the order that comes from them."""
    lines = [
        '"'.join(",".join(sorted(part.split(","))) for part in line.split('"'))
        if line.startswith("ETCD_INITIAL_CLUSTER=")
        else line
        for line in ID.sub("<id>", text).splitlines()
    ]
    return "\n".join(sorted(lines))


def added(store: Datastore) -> str:
    members = json.loads(store.etcdctl("member", "list", "-w", "json").stdout)["members"]
    return next((f"{m['ID']:x}" for m in members if m["peerURLs"] != ["http://127.0.0.1:2380"]), "")


@pytest.mark.parametrize("form", ["simple", "json"])
def test_a_member_is_added_changed_and_removed(fresh: Pair, form: str):
    said = run(fresh, "member", "add", "m2", "--learner", f"--peer-urls={FAR}", "-w", form)
    assert form != "simple" or "ETCD_INITIAL_CLUSTER_STATE" in said.stdout
    run(fresh, "member", "list", "-w", form)
    time.sleep(NEXT_SECOND)
    run(fresh, "member", "add", "m3", f"--peer-urls={FAR}", fails=True)
    run(fresh, "member", "add", "m3", "--learner", f"--peer-urls={FARTHER}", fails=True)
    run(fresh, "member", "update", "{id}", f"--peer-urls={FARTHER}", "-w", form)
    assert FARTHER in run(fresh, "member", "list").stdout
    run(fresh, "member", "remove", "{id}", "-w", form)
    assert FARTHER not in run(fresh, "member", "list").stdout


def test_members_that_are_not_there(fresh: Pair):
    run(fresh, "member", "remove", "abcdef0123456789", fails=True)
    run(fresh, "member", "update", "abcdef0123456789", f"--peer-urls={FAR}", fails=True)
    run(fresh, "member", "promote", "abcdef0123456789", fails=True)
    run(fresh, "move-leader", "abcdef0123456789", fails=True)
    run(fresh, "member", "remove", "nonsense", fails=True)
    run(fresh, "member", "add", fails=True)
    run(fresh, "member", "add", "m2", fails=True)
    run(fresh, "member", "add", "m2", "--peer-urls=nonsense", fails=True)
    run(fresh, "move-leader", fails=True)


def test_a_learner_is_no_voter_before_it_came(fresh: Pair):
    run(fresh, "member", "add", "m2", "--learner", f"--peer-urls={FAR}")
    run(fresh, "member", "promote", "{id}", fails=True)
    run(fresh, "move-leader", "{id}", fails=True)
    [voter] = json.loads(fresh.etcd.store.etcdctl("endpoint", "status", "-w", "json").stdout)
    run(fresh, "member", "promote", f"{voter['Status']['header']['member_id']:x}", fails=True)


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[list[Cluster]]:
    """Three members of each."""
    with ExitStack() as stack:
        both = [
            stack.enter_context(Cluster(3, tmp_path / kind.value, kind=kind))
            for kind in (Kind.ETCD, Kind.KVSHIM)
        ]
        with ThreadPoolExecutor(len(both)) as pool:
            list(pool.map(Cluster.start, both))
        yield both


def test_leadership_moves(clusters: list[Cluster]):
    answers = []
    for cluster in clusters:
        leader, (heir, _) = cluster.wait_leader(), cluster.followers()
        status = heir.status()
        assert status is not None
        everybody = ",".join(member.target for member in cluster.members)
        command = [ETCDCTL, f"--endpoints={everybody}", "move-leader"]
        done = subprocess.run(
            [*command, f"{status.header.member_id:x}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        answers.append(
            Answer(done.returncode, *(ID.sub("<id>", s) for s in (done.stdout, done.stderr)))
        )
        assert cluster.wait_leader(other_than=leader) is heir
    assert same("move-leader", *answers).code == 0
