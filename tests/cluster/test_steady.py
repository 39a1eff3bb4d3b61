"""Full load and nothing else: whoever leads at first leads at the end, in the same term."""

from __future__ import annotations

import time

from tests.cluster.clients import Traffic
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import FormCluster

STEADY_SECONDS_MIN = 20.0
LOOK_SECONDS = 1.0


def terms(cluster: Cluster) -> set[int]:
    """The terms of all members that answer."""
    return {status.raftTerm for member in cluster.members if (status := member.status())}


def stay(cluster: Cluster, traffic: Traffic, seconds: float) -> None:
    """Under load for so long no member sees another term, and writes go on."""
    before = terms(cluster)
    assert len(before) == 1
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        traffic.wait_writes(1, 40)
        assert terms(cluster) <= before, f"an election under load:\n{cluster.tails()}"
        time.sleep(LOOK_SECONDS)
    cluster.wait_leader(everyone=True)
    assert terms(cluster) == before, f"an election under load:\n{cluster.tails()}"


def test_full_load_makes_no_election(form: FormCluster, trouble_seconds: float, seed: int) -> None:
    cluster = form(3)
    load = Traffic(cluster.targets(), seed, clients=8, watchers=3, pause_seconds=0.0)
    with load as traffic:
        stay(cluster, traffic, max(trouble_seconds, STEADY_SECONDS_MIN))
        traffic.stop_clients()
        revision = cluster.wait_same_revision()
        assert len(set(cluster.hashes(revision))) == 1
        print(f"{len(traffic.record.acknowledged())} writes, no election")
