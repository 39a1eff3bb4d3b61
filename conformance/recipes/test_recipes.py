"""The recipes of etcd's Go client keep their promises: six contenders, each with its own session.

On one node, and on three whose leader is killed again and again meanwhile. The program (`main.go`)
checks while it runs: never two holders of a lock, never two leaders, no queue item taken twice or
lost, money moved by STM stays the same, nobody passes a held barrier.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.build import TARGETS, binary, build
from conformance.servers import Datastore, Kind
from conformance.summary import Counts, Recorder, count
from tests.cluster.cluster import Cluster
from tests.support.datastore import Kind as Program

STEADY_SECONDS = 4
HURT_SECONDS = 14
KILLS = 2
BETWEEN_KILLS_SECONDS = 2.0
DOWN_SECONDS = 1.5
FINISH_SECONDS_MAX = 90
KEPT = re.compile(r"^(.+): (\d+) rounds, (\d+) calls failed, (kept|BROKEN.*)$", re.M)
RECIPES = {
    *("mutex", "election", "stm", "rwmutex"),
    *("queue", "priority queue", "barrier", "double barrier"),
}

both_kinds = pytest.mark.parametrize("kind", [Kind.KVSHIM, Kind.ETCD], ids=lambda kind: kind.value)


@pytest.fixture(autouse=True, scope="module")
def _program() -> None:
    for name in ("recipes", "etcd"):
        build(TARGETS[name])


@both_kinds
def test_on_one_node(kind: Kind, tmp_path: Path, record_property: Recorder):
    with (
        Datastore(kind, tmp_path / "datastore") as datastore,
        begin(STEADY_SECONDS, datastore.endpoint) as program,
    ):
        failures = judge(program, kind, record_property)
    assert failures == 0, "nothing was hurt"


@both_kinds
def test_while_the_leader_is_killed(kind: Kind, tmp_path: Path, record_property: Recorder):
    with Cluster(3, tmp_path, kind=Program(kind.value)) as cluster:
        cluster.start()
        endpoints = ",".join(member.target for member in cluster.members)
        with begin(HURT_SECONDS, endpoints) as program:
            for _ in range(KILLS):
                time.sleep(BETWEEN_KILLS_SECONDS)
                leader = cluster.wait_leader()
                leader.kill()
                time.sleep(DOWN_SECONDS)
                cluster.restart(leader)
            failures = judge(program, kind, record_property)
    assert failures > 0, "nobody noticed that the leader was gone"


@contextmanager
def begin(seconds: int, endpoints: str) -> Iterator[subprocess.Popen[str]]:
    """The program at work; it is gone at the end."""
    program = subprocess.Popen(
        [binary("recipes"), str(seconds), endpoints],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def judge(program: subprocess.Popen[str], kind: Kind, record_property: Recorder) -> int:
    """Whether all promises were kept; how many calls failed."""
    said, problems = program.communicate(timeout=FINISH_SECONDS_MAX)
    lines = KEPT.findall(said)
    kept = [name for name, rounds, _, verdict in lines if verdict == "kept" and int(rounds) > 0]
    count(record_property, kind, Counts(len(kept), len(RECIPES) - len(kept)))
    assert set(kept) == RECIPES, said + problems
    assert program.returncode == 0, problems
    return sum(int(failed) for _, _, failed, _ in lines)
