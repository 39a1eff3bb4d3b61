"""The network between members is cut, slowed and lossy: always safe, and live if it can be."""

import random
import time

import pytest

from tests.cluster.clients import Traffic
from tests.cluster.cluster import Wires, wait_for
from tests.cluster.conftest import FormCluster
from tests.cluster.links import Rule
from tests.cluster.test_kills import settle


def test_a_leader_cut_off_is_replaced_and_serves_nothing_stale(
    form: FormCluster, cuttable: Wires, seed: int
) -> None:
    cluster = form(3, wires=cuttable)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(20, 30)
        leader = cluster.wait_leader()
        cluster.isolate(leader)
        cluster.wait_leader(other_than=leader)
        traffic.wait_writes(100, 30)
        cluster.heal()
        cluster.wait_leader(everyone=True)
        settle(cluster, traffic)


def test_a_minority_cut_off_disturbs_nobody(form: FormCluster, cuttable: Wires, seed: int) -> None:
    cluster = form(3, wires=cuttable)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(20, 30)
        leader = cluster.wait_leader()
        before = leader.status()
        cluster.isolate(cluster.followers()[0])
        traffic.wait_writes(100, 30)
        time.sleep(2)  # several elections that the lonely member would like to have
        cluster.heal()
        cluster.wait_leader(everyone=True)
        settle(cluster, traffic)
        after = cluster.wait_leader().status()
        assert before is not None
        assert after is not None
        assert (after.leader, after.raftTerm) == (before.leader, before.raftTerm)


def test_a_leader_that_hears_nobody_steps_down(
    form: FormCluster, cuttable: Wires, seed: int
) -> None:
    cluster = form(3, wires=cuttable)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(20, 30)
        leader = cluster.wait_leader()
        others = [member.name for member in cluster.members if member is not leader]
        cluster.cut(*[(name, leader.name) for name in others])
        cluster.wait_leader(other_than=leader)
        traffic.wait_writes(50, 30)
        cluster.heal()
        cluster.wait_leader(everyone=True)
        settle(cluster, traffic)


def test_a_leader_that_nobody_hears_is_replaced(
    form: FormCluster, cuttable: Wires, seed: int
) -> None:
    cluster = form(3, wires=cuttable)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(20, 30)
        leader = cluster.wait_leader()
        others = [member.name for member in cluster.members if member is not leader]
        cluster.cut(*[(leader.name, name) for name in others])
        cluster.wait_leader(other_than=leader)
        traffic.wait_writes(50, 30)
        cluster.heal()
        cluster.wait_leader(everyone=True)
        settle(cluster, traffic)


def test_a_slow_and_lossy_network_is_slow_but_right(
    form: FormCluster, cuttable: Wires, seed: int
) -> None:
    cluster = form(3, "--heartbeat-interval=300", "--election-timeout=3000", wires=cuttable)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(20, 30)
        cluster.degrade(Rule(delay_seconds=0.2, loss=0.2))
        traffic.wait_writes(40, 60)
        cluster.heal()
        settle(cluster, traffic)


@pytest.mark.parametrize(("election_ms", "seconds"), [(1_000, "1.5"), (3_000, "4.5")])
def test_a_silent_connection_is_given_up_in_proportion_to_elections(
    form: FormCluster, cuttable: Wires, election_ms: int, seconds: str
) -> None:
    cluster = form(3, f"--election-timeout={election_ms}", wires=cuttable)
    lonely = cluster.members[0]
    cluster.isolate(lonely)
    reason = f"nothing was heard for {seconds} s"
    wait_for(
        lambda: reason in lonely.log.read_text() or None,
        20,
        lambda: f"not {reason}: {lonely.tail()}",
    )


def test_two_of_five_cut_off_miss_nothing_and_stop_nobody(
    form: FormCluster, cuttable: Wires, seed: int
) -> None:
    cluster = form(5, wires=cuttable)
    with Traffic(cluster.targets(), seed) as traffic:
        traffic.wait_writes(20, 30)
        leader = cluster.wait_leader()
        other = next(member for member in cluster.members if member is not leader)
        cluster.isolate(leader, other)
        cluster.wait_leader(other_than=leader)
        traffic.wait_writes(100, 30)
        cluster.heal()
        cluster.wait_leader(everyone=True)
        settle(cluster, traffic)


@pytest.mark.parametrize("count", [3, 5])
def test_cuts_come_and_go(
    form: FormCluster, cuttable: Wires, trouble_seconds: float, seed: int, count: int
) -> None:
    cluster, rng = form(count, wires=cuttable), random.Random(seed)
    names = [member.name for member in cluster.members]
    ways = [(a, b) for a in names for b in names if a != b]
    with Traffic(cluster.targets(), seed) as traffic:
        end = time.monotonic() + trouble_seconds
        while time.monotonic() < end:
            cluster.cut(*rng.sample(ways, rng.randint(1, len(ways) - 2)))
            time.sleep(rng.uniform(0.2, 2))
            cluster.heal()
            if rng.random() < 0.5:
                traffic.wait_writes(10, 30)
        settle(cluster, traffic)
