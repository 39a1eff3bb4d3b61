"""Three members on one machine: rates over all of them, and what each does when idle."""

from __future__ import annotations

import time
from dataclasses import asdict

from bench import load, usage
from bench.load import WRITES, together_per_second
from bench.trial import Measurement, Outcome, Trial
from tests.cluster.cluster import Cluster
from tests.support import datastore


def three(trial: Trial) -> Outcome:
    """Clients spread over the members; gets are linearizable."""
    scale = trial.scale
    with _cluster(trial) as cluster:
        leader = cluster.start()
        urls = ",".join(member.client_url for member in cluster.members)
        flags: dict[str, int | float | str] = {
            "n": scale.objects,
            "timeout": f"{scale.timeout_seconds}s",
        }
        phases = load.run(("create", "update", "get", "delete"), flags, urls, leader.pid)
        used = [usage.read(member.pid, member.data_dir) for member in cluster.members]
    figures = {
        "three_writes_per_second": together_per_second(phases, *WRITES),
        "three_gets_per_second": phases["get"]["per_second"],
        "three_rss_peak_mib": max(one.rss_peak_mib for one in used),
    }
    return Outcome(figures, {"phases": phases})


def calm(trial: Trial) -> Outcome:
    """The busiest of three idle members."""
    with _cluster(trial) as cluster:
        cluster.start()
        time.sleep(trial.scale.settle_seconds)
        pids = [member.pid for member in cluster.members]
        seen = usage.idleness(pids, trial.scale.idle_seconds)
    figures = {
        "three_idle_cpu_percent": max(one.cpu_percent for one in seen),
        "three_idle_wakeups": max(one.wakeups_per_second for one in seen),
    }
    return Outcome(figures, {"members": [asdict(one) for one in seen]})


def _cluster(trial: Trial) -> Cluster:
    kind = datastore.Kind(trial.kind.value)
    return Cluster(3, trial.directory, *trial.flags, kind=kind)


THREE = Measurement("three", "three members", three)
CALM = Measurement("calm", "three idle members", calm, rounds=1)
