"""The whole suite: some processes, each with a pair of servers, share the sequences of some seeds.

`python -m conformance.differential --help`. A sequence that shows a difference is run again on
fresh servers, made as short as possible, and written to `found/`, where it is a test from then on.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.differential import steps
from conformance.differential.compare import Difference
from conformance.differential.generate import sequence
from conformance.differential.pair import Pair, Result
from conformance.differential.shrink import shrink
from conformance.servers import Kind

FOUND = Path(__file__).parent / "found"
WORKERS = 3
TRIES_MAX = 80
"""Of shrinking one sequence."""
SHRUNK_MAX = 2
"""Sequences that one process shrinks; of further differences it only tells."""
DIFFERENCES_MAX = 20
"""In one process, after which it gives up."""


@dataclass(frozen=True, slots=True)
class Found:
    """A sequence whose answers differ."""

    seed: str
    difference: str
    signature: str
    shortest: steps.Sequence


@dataclass(slots=True)
class Report:
    """What one process did."""

    requests: int
    sequences: int
    found: list[Found]


@dataclass(frozen=True, slots=True)
class Share:
    """The sequences `first`, `first + stride`, ... of each seed, up to so many requests in all."""

    trial: Kind
    seeds: tuple[str, ...]
    first: int
    stride: int
    requests: int
    tries_max: int = TRIES_MAX


def run(trial: Kind, seeds: Sequence[str], requests: int, workers: int = WORKERS) -> Report:
    """So many requests of each seed on etcd and on the server on trial."""
    shares = [
        Share(trial, tuple(seeds), number, workers, requests // workers)
        for number in range(workers)
    ]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        reports = pool.map(run_share, shares, chunksize=1)
    return Report(
        sum(report.requests for report in reports),
        sum(report.sequences for report in reports),
        [found for report in reports for found in report.found],
    )


def run_share(share: Share) -> Report:
    """One process's work."""
    report = Report(0, 0, [])
    with Pair(share.trial) as pair:
        for seed in share.seeds:
            _run_seed(pair, share, seed, report)
    return report


def _run_seed(pair: Pair, share: Share, seed: str, report: Report) -> None:
    number, left = share.first, share.requests
    while left > 0 and len(report.found) < DIFFERENCES_MAX:
        name = f"{seed}/{number}"
        made = sequence(name)
        result = _tried(pair, made)
        left -= result.requests
        report.requests += result.requests
        report.sequences += 1
        number += share.stride
        if result.difference is not None:
            known = {found.signature for found in report.found}
            found = Found(name, str(result.difference), result.difference.signature, [])
            pair.restart()
            if found.signature not in known and len(known) < SHRUNK_MAX:
                found = _look_closer(pair, found, made, share.tries_max)
            report.found.append(found)
            print(f"{found.seed}: {found.difference}", file=sys.stderr, flush=True)


def _look_closer(pair: Pair, found: Found, made: steps.Sequence, tries_max: int) -> Found:
    """The shortest sequence that shows a difference on fresh servers; none if it needs what was
    before it, or is a matter of time. The pair is fresh afterwards."""
    last = found

    def fails(candidate: steps.Sequence) -> bool:
        nonlocal last
        difference = _tried(pair, candidate).difference
        if difference is None:
            return False
        last = replace(last, difference=str(difference), shortest=candidate)
        pair.restart()
        return True

    if fails(made):
        shrink(made, fails, tries_max)
    return last


def _tried(pair: Pair, made: steps.Sequence) -> Result:
    """A server that no longer answers as a server should differs too."""
    try:
        return pair.run(made)
    except Exception as failure:
        return Result(Difference("run", "", f"fails: {failure!r}"), len(made))


def write(found: Iterable[Found]) -> list[Path]:
    """Keep the shortest sequences as tests; the files that were written."""
    written = []
    for each in found:
        if not each.shortest:
            continue
        text = steps.dump(each.shortest, f"seed {each.seed}: {each.difference}")
        name = hashlib.sha256(steps.dump(each.shortest, "").encode()).hexdigest()[:12]
        path = FOUND / f"{name}.json"
        path.write_text(text)
        written.append(path)
    return written


def fresh_seed() -> str:
    """A seed that nobody has tried."""
    return f"{time.time_ns():x}"
