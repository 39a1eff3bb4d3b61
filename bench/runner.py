"""Runs measurements, servers in turns, each time fresh, and collects what came of it.

One server at a time. Blocking; owns the directory of each trial, which stays if the trial fails.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import usage
from bench.figures import Record
from bench.load import ROOT, LoadError
from bench.scale import Scale
from bench.trial import Measurement, Outcome, Trial
from conformance.servers import Kind, ServerError
from tests.support.datastore import StartError

FAILURES = (LoadError, ServerError, StartError, AssertionError, OSError, subprocess.SubprocessError)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, on which servers, how often, how much."""

    measurements: Sequence[Measurement]
    servers: Sequence[Kind]
    rounds: Callable[[Measurement], int]
    scale: Scale
    flags: Mapping[Kind, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """The record of each trial in the order they ran, and why some were given up."""

    records: list[Record]
    failures: dict[str, str]


def measure(plan: Plan, report: Callable[[str], None]) -> Results:
    """Runs the plan. What fails on a server is given up there and named; all else goes on."""
    results = Results([], {})
    for measurement in plan.measurements:
        for number, kind in turns(measurement, plan):
            what = f"{measurement.name} on {kind.value}"
            if what in results.failures:
                continue
            try:
                results.records.append(_once(measurement, kind, number, plan, report))
            except FAILURES as failure:
                # What is kept goes into the repository: one sentence, no path of this machine.
                results.failures[what] = str(failure).splitlines()[0].replace(f"{ROOT}/", "")
                report(f"{what} failed: {failure}")
    return results


def turns(measurement: Measurement, plan: Plan) -> list[tuple[int, Kind]]:
    """Rounds and servers in order; every second round the other way round, so that a machine which
    slows down over time treats both alike."""
    servers, found = measurement.takes(plan.servers), []
    for number in range(1, plan.rounds(measurement) + 1):
        ordered = servers if number % 2 else servers[::-1]
        found += [(number, kind) for kind in ordered]
    return found


def _once(
    measurement: Measurement, kind: Kind, number: int, plan: Plan, report: Callable[[str], None]
) -> Record:
    # In build/ rather than in the system's temporary directory, which may be memory: there a fsync
    # costs nothing and half of what is measured is gone.
    (ROOT / "build").mkdir(exist_ok=True)
    prefix = f"bench-{measurement.name}-{kind.value}-"
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=ROOT / "build"))
    busy, own = usage.machine_busy_seconds(), usage.own_seconds()
    began = time.monotonic()
    outcome = measurement.run(Trial(kind, plan.scale, directory, plan.flags.get(kind, ())))
    took = time.monotonic() - began
    others = usage.machine_busy_seconds() - busy - (usage.own_seconds() - own)
    shutil.rmtree(directory)
    report(f"{measurement.name}, round {number}, {kind.value}: {took:.0f} s, {_brief(outcome)}")
    return {
        "measurement": measurement.name,
        "server": kind.value,
        "round": number,
        "seconds": took,
        "other_cpu_share": max(0.0, others / took),
        "figures": outcome.figures,
        "details": outcome.details,
    }


def _brief(outcome: Outcome) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in outcome.figures.items())
