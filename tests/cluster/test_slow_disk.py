"""Members on disks of the class of an SD card: slower, and nothing else."""

from __future__ import annotations

import json

import pytest

from tests.cluster.clients import Traffic
from tests.cluster.conftest import FormCluster
from tests.cluster.leases import Leases
from tests.cluster.member import Member
from tests.cluster.test_steady import STEADY_SECONDS_MIN, stay
from tests.support.slow_disk import PROGRAM, Pace

SD_CARD = Pace(20, 50)
HICCUPS = Pace(20, 50, spike_ms=300, spike_every=40)
"""What a card does when it tidies up: more than half of the election timeout."""

TTL_SECONDS = 5
LEASES = 10


def lines(member: Member, message: str) -> list[dict[str, object]]:
    """What a member's log has under this name."""
    found = (json.loads(line) for line in member.log.read_text().splitlines() if line[:1] == "{")
    return [line for line in found if line["msg"] == message]


@pytest.mark.parametrize(
    ("pace", "seconds_min"),
    [(SD_CARD, STEADY_SECONDS_MIN), (HICCUPS, 0.0)],
    ids=["always-slow", "with-hiccups"],
)
def test_a_slow_disk_costs_no_leader_and_no_lease_and_is_told(
    form: FormCluster, trouble_seconds: float, seed: int, pace: Pace, seconds_min: float
) -> None:
    def use(member: Member) -> None:
        member.program, member.environment = PROGRAM, pace.environment()

    # Values of a size that lets the checkpoints of both files come again and again.
    cluster = form(3, prepare=use)
    with Traffic(cluster.targets(), seed, clients=6, value_bytes=4_000) as traffic:
        leases = Leases(cluster.targets(), LEASES, TTL_SECONDS)
        stay(cluster, traffic, max(trouble_seconds, seconds_min))
        leases.stop()
        traffic.stop_clients()
        revision = cluster.wait_same_revision()
        assert len(set(cluster.hashes(revision))) == 1
        traffic.check(cluster.wait_leader().target)
    print(f"{leases.renewals} renewals, {leases.longest_pause:.1f} s between them at most")
    leases.check(cluster.wait_leader().target)
    for member in cluster.members:
        assert not lines(member, "leases expired")
        medians = [line["median_seconds"] for line in lines(member, "slow disk")]
        assert medians, f"{member.name} does not tell of its slow disk: {member.tail()}"
        assert all(isinstance(one, float) and one >= 0.02 for one in medians)
