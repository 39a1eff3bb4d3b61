"""The command `python -m bench.ha`, which `make bench-ha` calls: three members beside etcd's three.

In turns, each trial on both programs: a leader is killed and the next acknowledged write timed; a
leader is stopped as a service manager would and the longest gap between writes measured. Then the
load generator on all three, peak memory, and if asked for the join of a node to a large store, on
loopback and behind a narrow wire.
Writes `docs/bench/*-ha.json` and `docs/bench/ha.md`. Exit code 1 with one sentence on failure.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench import load as loadgen
from bench import usage, versions
from bench.ha_join import Join
from bench.ha_page import DIRECTORY, page
from bench.ha_probe import Probe
from bench.load import ROOT, LoadError
from conformance import build
from tests.cluster.cluster import Cluster
from tests.support.datastore import Kind, StartError

MEMBERS = 3
WRITES_BEFORE = 30
WRITE_SECONDS_MAX = 30.0
QUIET_SECONDS = 1.0
RATE_PHASES = ("create", "update", "get", "delete")
Trial = dict[str, Any]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.ha", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="leaders killed of each program")
    parser.add_argument("--stops", type=int, default=20, help="leaders stopped of each program")
    parser.add_argument("--rounds", type=int, default=3, help="runs of the load generator")
    parser.add_argument("--n", type=int, default=5000, help="objects of the load generator")
    parser.add_argument("--join-objects", type=int, default=0, help="1 KiB each; the goal: 200000")
    parser.add_argument("--join-trials", type=int, default=3, help="joins of each program")
    parser.add_argument("--wire-mbit", type=float, default=100, help="second join; 0 for none")
    parser.add_argument("--only", choices=[kind.value for kind in Kind], help="one program only")
    parser.add_argument("--no-save", action="store_true", help="print only")
    return parser.parse_args(arguments)


@contextmanager
def formed(kind: Kind) -> Iterator[Cluster]:
    """Three members with default timing, on the disk and not in memory; gone at the end."""
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"ha-{kind}-", dir=ROOT / "build"))
    with Cluster(MEMBERS, directory, kind=kind) as cluster:
        cluster.start()
        yield cluster
    shutil.rmtree(directory)


def write_gap(cluster: Cluster, *, kill: bool) -> Trial:
    """End the leader while the other two are written to; seconds without an acknowledged write.

    After a kill that is until the next acknowledged write, after a stop the longest gap from the
    signal until a second after the leader's process has ended.
    """
    leader = cluster.wait_leader(everyone=True)
    with Probe([member.target for member in cluster.members if member is not leader]) as probe:
        probe.wait(WRITES_BEFORE, time.monotonic(), WRITE_SECONDS_MAX)
        began = time.monotonic()
        if kill:
            leader.kill()
        else:
            leader.stop()
        probe.wait(WRITES_BEFORE, time.monotonic(), WRITE_SECONDS_MAX)
        time.sleep(QUIET_SECONDS)
        return {"seconds": probe.longest_gap(began, time.monotonic()), "leader": leader.name}


def gaps(kinds: list[Kind], count: int, *, kill: bool) -> dict[str, list[Trial]]:
    """So many trials on each program in turns, every one on a new cluster."""
    found: dict[str, list[Trial]] = {kind.value: [] for kind in kinds}
    for number in range(count):
        for kind in kinds:
            with formed(kind) as cluster:
                trial = write_gap(cluster, kill=kill)
            found[kind.value].append(trial)
            word = "kill" if kill else "stop"
            print(f"{word} {number + 1} of {count}, {kind}: {1000 * trial['seconds']:.0f} ms")
    return found


def rates(kinds: list[Kind], rounds: int, objects: int) -> list[Trial]:
    """The load generator over all three members; figures of it and of the processes."""
    found = []
    for number in range(1, rounds + 1):
        for kind in kinds:
            with formed(kind) as cluster:
                leader = cluster.wait_leader(everyone=True)
                urls = ",".join(member.client_url for member in cluster.members)
                flags: dict[str, int | float | str] = {"n": objects, "timeout": "30m"}
                phases = loadgen.run(RATE_PHASES, flags, urls, leader.pid)
                used = {m.name: usage.read(m.pid, m.data_dir) for m in cluster.members}
            record = {
                "server": kind.value,
                "round": number,
                "leader": leader.name,
                "rss_peak_mib": {name: one.rss_peak_mib for name, one in used.items()},
                "cpu_seconds": sum(one.cpu_seconds for one in used.values()),
                "per_second": {p: phases[p]["per_second"] for p in RATE_PHASES},
                "p99_ms": {p: phases[p]["p99_ms"] for p in RATE_PHASES},
            }
            found.append(record)
            print(f"load {number} of {rounds}, {kind}: {record['per_second']}")
    return found


def joins(
    kinds: list[Kind], trials: int, objects: int, bits_per_second: float | None
) -> dict[str, list[Trial]]:
    """Joins to a large store on each program, in turns."""
    found: dict[str, list[Trial]] = {kind.value: [] for kind in kinds}
    for _ in range(trials):
        for kind in kinds:
            directory = Path(tempfile.mkdtemp(prefix=f"ha-{kind}-", dir=ROOT / "build"))
            found[kind.value].append(Join(directory, objects, bits_per_second).measure(kind))
            shutil.rmtree(directory)
            print(f"join, {kind}: {found[kind.value][-1]}")
    return found


def middle(trials: list[Trial]) -> Trial:
    """The median of each figure, but all elections and failures."""
    sums = ("terms", "failures")
    return {
        key: sum(trial[key] for trial in trials)
        if key in sums
        else statistics.median(trial[key] for trial in trials)
        for key, value in trials[0].items()
        if isinstance(value, int | float)
    }


def summary(trials: list[Trial]) -> dict[str, float]:
    """Median and worst, in seconds."""
    seconds = [trial["seconds"] for trial in trials]
    return {"median": statistics.median(seconds), "max": max(seconds), "trials": len(seconds)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    kinds = [Kind(options.only)] if options.only else [Kind.ETCD, Kind.KVSHIM]
    program = versions.Program.now()
    program.compile()
    busy = usage.machine_busy_seconds(), time.monotonic()
    killed = gaps(kinds, options.kills, kill=True) if options.kills else {}
    stopped = gaps(kinds, options.stops, kill=False) if options.stops else {}
    loaded = rates(kinds, options.rounds, options.n) if options.rounds else []
    trials = options.join_trials if options.join_objects else 0
    joined = joins(kinds, trials, options.join_objects, None) if trials else {}
    wire = options.wire_mbit * 1e6
    narrow = joins(kinds, trials, options.join_objects, wire) if trials and wire else {}
    busy_seconds = usage.machine_busy_seconds() - busy[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"etcd": versions.etcd(), "kvshim": program.version},
        "unchanged": _unchanged(program),
        "machine": {
            "cores": os.cpu_count(),
            "memory_mib": psutil.virtual_memory().total // (1 << 20),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "busy_share": busy_seconds / (time.monotonic() - busy[1]) / (os.cpu_count() or 1),
        },
        "kill": {name: summary(trials) for name, trials in killed.items()},
        "stop": {name: summary(trials) for name, trials in stopped.items()},
        "load": {"objects": options.n, "records": loaded},
        "join": {name: middle(trials) for name, trials in joined.items()},
        "join_narrow": {name: middle(trials) for name, trials in narrow.items()},
        "trials": {"kill": killed, "stop": stopped, "join": joined, "join_narrow": narrow},
    }


def _unchanged(program: versions.Program) -> bool:
    try:
        program.require_unchanged()
    except versions.VersionError:
        return False
    return True


def main(arguments: list[str]) -> int:
    """Builds, measures, prints, saves."""
    options = parse(arguments)
    try:
        if options.only != Kind.KVSHIM.value:
            build.build(build.TARGETS["etcd"])
        loadgen.build()
        measurement = measure(options)
    except (LoadError, StartError, AssertionError, subprocess.CalledProcessError) as failure:
        print(f"bench-ha: {failure}", file=sys.stderr)
        return 1
    text = page(measurement)
    print(text)
    if not options.no_save:
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        name = f"{measurement['date'][:10]}-ha.json"
        folder = DIRECTORY / "ha"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(measurement, indent=1) + "\n")
        (DIRECTORY / "ha.md").write_text(text)
    return 0


if __name__ == "__main__":
    threading.excepthook = lambda _: None  # clients that a failed trial leaves behind
    sys.exit(main(sys.argv[1:]))
