"""A long, even load with compactions: memory, write-ahead logs and files must not grow.

The load generator runs on a thread of its own; the caller's thread samples and compacts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from bench.load import Phase
from bench.trial import Figures, Measurement, Outcome, Trial
from bench.usage import MIB
from conformance.servers import Datastore, Kind
from tests.support.grpc_client import EtcdClient

WATCHERS = 10
FIFTHS = 5
SERIES = {"rss": "rss_mib", "wal": "wal_mib", "file": "file_mib"}
Sample = dict[str, float]


def hour(trial: Trial) -> Outcome:
    """Updates at a fixed rate; every minute what was a minute ago is compacted."""
    scale = trial.scale
    with trial.server() as server, ThreadPoolExecutor(1, "load") as pool:
        trial.load(server, scale.objects, "create")
        flags: dict[str, int | float | str] = {
            "watchers": WATCHERS,
            "watch_rate": scale.hour_rate,
            "watch_duration": f"{scale.hour_seconds}s",
            "timeout": f"{scale.hour_seconds + scale.timeout_seconds}s",
        }
        running = pool.submit(trial.load, server, scale.objects, "watch", **flags)
        samples = _attend(trial, server, running)
        found = running.result()["watch"]
    figures = growth(samples)
    figures["hour_put_p99_ms"] = found["p99_ms"]
    return Outcome(figures, {"samples": samples, "phases": {"watch": found}})


def _attend(trial: Trial, server: Datastore, running: Future[dict[str, Phase]]) -> list[Sample]:
    """Samples and compacts until the load has ended."""
    scale, began, samples = trial.scale, time.monotonic(), list[Sample]()
    with closing(EtcdClient(server.endpoint)) as client:
        compact_to, compact_at = client.revision(), began + scale.compact_seconds
        while not running.done():
            now = time.monotonic()
            samples.append({"seconds": now - began, **_sizes(trial, server)})
            if now >= compact_at:
                if compact_to > 1:
                    client.compact(compact_to)
                compact_to, compact_at = client.revision(), compact_at + scale.compact_seconds
            time.sleep(max(0.0, now + scale.sample_seconds - time.monotonic()))
    return samples


def _sizes(trial: Trial, server: Datastore) -> Sample:
    return {
        "rss_mib": trial.usage(server).rss_mib,
        "wal_mib": _total_mib(server.data_dir, "*.db-wal"),
        "file_mib": _total_mib(server.data_dir, "*.db"),
    }


def _total_mib(directory: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in directory.glob(pattern)) / MIB


def growth(samples: Sequence[Sample]) -> Figures:
    """For each series the median of the last fifth, and that over the second fifth's.

    The first fifth is the warm-up.
    """
    share = max(1, len(samples) // FIFTHS)
    early, late = samples[share : 2 * share] or samples[:1], samples[-share:]
    figures = {}
    for name, series in SERIES.items():
        then = statistics.median(sample[series] for sample in early)
        now = statistics.median(sample[series] for sample in late)
        figures[f"hour_{name}_mib"] = now
        figures[f"hour_{name}_growth"] = now / then if then else 1.0
    return figures


HOUR = Measurement(
    "hour", "a long, even load", hour, rounds=1, rounds_full=1, servers=(Kind.KVSHIM,), usual=False
)
