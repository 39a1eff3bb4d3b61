"""Members are killed, frozen and restarted under load: nothing acknowledged is lost or repeated."""

import random
import time

from tests.cluster.clients import Traffic
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import FormCluster

ROLLING_GAP_SECONDS_MAX = 2.0
"""A bound that noise on a shared machine does not break; `make bench-ha` measures the real gap."""


def settle(cluster: Cluster, traffic: Traffic) -> None:
    """All are up: more writes pass, then what anyone saw is proved, and stores are equal."""
    cluster.start_all()
    cluster.wait_leader(everyone=True)
    traffic.wait_writes(20, 30)
    traffic.stop_clients()
    revision = cluster.wait_same_revision()
    assert len(set(cluster.hashes(revision))) == 1
    traffic.check(cluster.wait_leader().target)


def test_the_leader_is_killed_again_and_again(
    form: FormCluster, trouble_seconds: float, seed: int
) -> None:
    cluster = form(3)
    with Traffic(cluster.targets(), seed) as traffic:
        end = time.monotonic() + trouble_seconds
        while time.monotonic() < end:
            traffic.wait_writes(20, 30)
            leader = cluster.wait_leader()
            leader.kill()
            cluster.wait_leader(other_than=leader)
            traffic.wait_writes(20, 30)
            cluster.restart(leader)
            cluster.wait_leader(everyone=True)
        settle(cluster, traffic)


def test_a_follower_is_killed_and_the_rest_do_not_notice(form: FormCluster, seed: int) -> None:
    cluster = form(3)
    with Traffic(cluster.targets()[:1], seed) as traffic:
        traffic.wait_writes(20, 30)
        leader = cluster.wait_leader()
        victim = next(m for m in cluster.members[1:] if m is not leader)
        term = leader.status()
        victim.kill()
        traffic.wait_writes(200, 30)
        cluster.restart(victim)
        settle(cluster, traffic)
        after = cluster.wait_leader().status()
        assert term is not None
        assert after is not None
        assert after.raftTerm == term.raftTerm, "a follower that came back made an election"


def test_a_frozen_leader_is_replaced_and_follows_when_it_thaws(
    form: FormCluster, trouble_seconds: float, seed: int
) -> None:
    cluster = form(3)
    with Traffic(cluster.targets(), seed) as traffic:
        end = time.monotonic() + trouble_seconds / 2
        while time.monotonic() < end:
            traffic.wait_writes(20, 30)
            leader = cluster.wait_leader()
            leader.pause()
            cluster.wait_leader(other_than=leader)
            traffic.wait_writes(20, 30)
            leader.resume()
            cluster.wait_leader(everyone=True)
        settle(cluster, traffic)


def test_all_are_killed_under_load_and_restarted(form: FormCluster, seed: int) -> None:
    cluster = form(3)
    with Traffic(cluster.targets(), seed) as traffic:
        for _ in range(2):
            traffic.wait_writes(100, 30)
            for member in cluster.members:
                member.kill()
            cluster.start_all()
            cluster.wait_leader(everyone=True)
        settle(cluster, traffic)


def test_random_members_are_killed_and_frozen(
    form: FormCluster, trouble_seconds: float, seed: int
) -> None:
    cluster, rng = form(5), random.Random(seed)
    with Traffic(cluster.targets(), seed) as traffic:
        end = time.monotonic() + trouble_seconds
        while time.monotonic() < end:
            victims = rng.sample(cluster.members, rng.randint(1, 2))
            frozen = rng.random() < 0.4
            for member in victims:
                member.pause() if frozen else member.kill()
            traffic.wait_writes(20, 30)
            for member in victims:
                member.resume() if frozen else cluster.restart(member)
            cluster.wait_leader(everyone=rng.random() < 0.5)
        settle(cluster, traffic)


def test_a_rolling_restart_leaves_no_gap_worth_the_name(form: FormCluster, seed: int) -> None:
    cluster = form(3)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(50, 30)
        began = time.monotonic()
        for member in cluster.members:
            member.stop()
            traffic.wait_writes(20, 30)
            cluster.restart(member)
            cluster.wait_leader(everyone=True)
            traffic.wait_writes(20, 30)
        gap = traffic.record.longest_gap(began, time.monotonic())
        print(f"longest write gap in a rolling restart: {1000 * gap:.0f} ms")
        settle(cluster, traffic)
    assert gap < ROLLING_GAP_SECONDS_MAX
