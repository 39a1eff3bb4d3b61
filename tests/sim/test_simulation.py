"""Whole clusters of the production core, in trouble: every seed must be safe, and alive afterwards.

`SIM_SEEDS=5000 pytest tests/sim` runs more, `SIM_FIRST=12345` begins elsewhere. A failing seed is
named with everything that happened before; `SIM_FIRST=<seed> SIM_SEEDS=1` runs it again, exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from tests.sim.simulation import Simulation, simulate

FIRST = int(os.environ.get("SIM_FIRST", "0"))
SEEDS = int(os.environ.get("SIM_SEEDS", "500"))
CHUNK = 20
FULL = 2
"""A seed with three voters."""

RecordProperty: TypeAlias = Callable[[str, Any], None]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_clusters_in_trouble_stay_safe_and_recover(first: int, record_property: RecordProperty):
    reports = [simulate(seed) for seed in range(first, min(first + CHUNK, FIRST + SEEDS))]
    events = sum(report.events for report in reports)
    on_files = sum(report.files for report in reports)
    record_property("simulation", (len(reports), on_files, events))
    print(f"seeds {first} to {first + len(reports) - 1}: {events} events")


@pytest.mark.timeout(600)
def test_a_seed_replays_exactly():
    for kind in ({"files": False}, {"files": True}, {"whole": True}):
        reports = [Simulation(5, traced=traced, **kind).run() for traced in (False, True, False)]
        assert reports[0] == reports[1] == reports[2]
        assert Simulation(4, **kind).run().digest != reports[0].digest


def test_runs_are_worth_their_time():
    """A simulation in which nothing happens finds nothing."""
    reports = [Simulation(seed).run() for seed in range(6)]
    assert sum(report.leaders for report in reports) > 30
    assert sum(report.committed for report in reports) > 600
    assert sum(report.operations for report in reports) > 2_000


def test_a_full_disk_stops_one_member_and_the_others_go_on():
    simulation = Simulation(FULL, files=True)
    world, trouble = simulation.world, simulation.trouble
    trouble.stopped = True
    for member in simulation.members.values():
        member.start()
    simulation.clients.start(5)
    world.run_until(3_000_000)
    leader = trouble.leader()
    assert leader is not None
    leader.disk.fill()
    world.run_until(8_000_000)
    committed = len(simulation.safety.committed)

    assert not leader.up
    assert leader.last_words.endswith("raft.db: the disk is full")
    world.run_until(10_000_000)
    assert len(simulation.safety.committed) > committed + 20

    trouble.mend()
    world.run_until(14_000_000)
    simulation.clients.stopped = True
    world.run_until(16_000_000)
    simulation._check_equal()
    simulation.close()
