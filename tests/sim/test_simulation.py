"""Whole clusters of the production core, in trouble: every seed must be safe, and alive afterwards.

`SIM_SEEDS=5000 pytest tests/sim` runs more, `SIM_FIRST=12345` begins elsewhere. A failing seed is
named with everything that happened before; `SIM_FIRST=<seed> SIM_SEEDS=1` runs it again, exactly.
"""

from __future__ import annotations

import os

import pytest

from tests.sim.simulation import Simulation, simulate

FIRST = int(os.environ.get("SIM_FIRST", "0"))
SEEDS = int(os.environ.get("SIM_SEEDS", "200"))
CHUNK = 20


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_clusters_in_trouble_stay_safe_and_recover(first: int):
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        simulate(seed)


def test_a_seed_replays_exactly():
    reports = [Simulation(3, traced=traced).run() for traced in (False, True, False)]
    assert reports[0] == reports[1] == reports[2]
    assert Simulation(4).run().digest != reports[0].digest


def test_runs_are_worth_their_time():
    """A simulation in which nothing happens finds nothing."""
    reports = [Simulation(seed).run() for seed in range(6)]
    assert sum(report.leaders for report in reports) > 30
    assert sum(report.committed for report in reports) > 600
    assert sum(report.operations for report in reports) > 2_000
