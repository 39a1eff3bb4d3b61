"""One measurement: servers in turns, each time fresh, and what came of it.

Only one server runs at a time. Blocking; owns the servers and their directories.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import load as loadgen
from bench import usage
from bench.load import ROOT, Load
from conformance.servers import Datastore, Kind


@dataclass(frozen=True, slots=True)
class Plan:
    """Which servers take turns, how often, under which load."""

    servers: Sequence[Kind]
    rounds: int
    load: Load
    flags: Mapping[Kind, Sequence[str]]
    timeout_seconds: float


def measure(plan: Plan, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs the plan; a record for each server and round, in the order they ran.

    Raises LoadError or ServerError at the first failure, and then leaves the server's directory,
    since its log says why.
    """
    records = []
    for number in range(1, plan.rounds + 1):
        for kind in plan.servers:
            started = time.monotonic()
            record = _once(kind, plan)
            records.append({"server": kind.value, "round": number, **record})
            took = time.monotonic() - started
            report(f"round {number} of {plan.rounds}, {kind.value}: {took:.0f} s")
    return records


def _once(kind: Kind, plan: Plan) -> dict[str, Any]:
    # In build/ rather than in the system's temporary directory, which may be memory: there a fsync
    # costs nothing and half of what is measured is gone.
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"bench-{kind.value}-", dir=ROOT / "build"))
    datastore = Datastore(kind, directory, plan.flags.get(kind, ()))
    started = time.monotonic()
    with datastore:
        start_seconds = time.monotonic() - started
        busy = usage.machine_busy_seconds()
        before = usage.read(datastore.pid, datastore.data_dir)
        result = loadgen.run(plan.load, datastore.client_url, datastore.pid, plan.timeout_seconds)
        after = usage.read(datastore.pid, datastore.data_dir)
        busy = usage.machine_busy_seconds() - busy
    shutil.rmtree(directory)
    cpu_seconds = after.cpu_seconds - before.cpu_seconds
    return {
        "start_seconds": start_seconds,
        "usage": {**asdict(after), "cpu_seconds": cpu_seconds},
        "other_cpu_seconds": busy - cpu_seconds - result["client_cpu_seconds"],
        "result": result,
    }
