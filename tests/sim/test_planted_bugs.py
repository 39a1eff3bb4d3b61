"""The simulation proves itself: it finds each bug of `bugs.BUGS` within some seeds, from 0 on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.bugs import BUGS, Bug, planted
from tests.sim.simulation import Failure, Simulation

SEEDS_MAX = 600


def first_failure(bug: Bug) -> str | None:
    """How the first seed fails that finds the bug."""
    with planted(bug):
        for seed in range(SEEDS_MAX):
            simulation = Simulation(seed, files=bug.files, whole=bug.whole)
            if simulation.trouble.mood is not bug.mood:
                simulation.close()
                continue
            try:
                simulation.run()
            except Failure as failure:
                return str(failure)
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_the_simulation_finds(bug: Bug):
    assert first_failure(bug) is not None, f"no seed of {SEEDS_MAX} finds: {bug.name} ({bug.rule})"


def test_what_was_planted_is_taken_out_again():
    for bug in BUGS:
        targets = bug.patches()
        before = [target.__dict__[name] for target, name, _ in targets]
        with planted(bug):
            assert [target.__dict__[name] for target, name, _ in targets] != before
        assert [target.__dict__[name] for target, name, _ in targets] == before


def test_the_page_names_them_all():
    page = (Path(__file__).parents[2] / "docs" / "raft.md").read_text()
    rows = [f"| {bug.name} | {bug.rule} | {bug.mood.value} |" for bug in BUGS]
    assert rows == [line for line in page.splitlines() if line.startswith("| ")][-len(rows) :]
