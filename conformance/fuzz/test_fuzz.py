"""A minute of fuzzing finds nothing: no crash, no hang, no memory that grows."""

import pytest

from conformance.fuzz import seeds, targets
from conformance.fuzz.__main__ import STOP_SECONDS_MAX, run

SECONDS = 60
INPUTS_MIN = 2_000
"""A run that tries fewer is no run. An idle core tries 50 times as many."""
LINES_SHOWN = 60


def test_there_is_a_seed_for_every_target_and_all_pass():
    names = [target.__name__ for target in targets.TARGETS]
    given = set()
    for name, data in seeds.seeds():
        given.add(name)
        targets.run(bytes([names.index(name)]) + data)
    assert given == set(names)


@pytest.mark.timeout(SECONDS + STOP_SECONDS_MAX + 10)
def test_a_minute_of_fuzzing_finds_nothing():
    outcome = run(SECONDS)
    assert outcome.passed, "\n".join(outcome.report.splitlines()[-LINES_SHOWN:])
    assert outcome.inputs > INPUTS_MIN
