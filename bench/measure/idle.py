"""What an empty server does and holds while nobody asks anything of it."""

from __future__ import annotations

import time
from dataclasses import asdict

from bench import usage
from bench.trial import Measurement, Outcome, Trial


def idle(trial: Trial) -> Outcome:
    """One node, some time after its start."""
    with trial.server() as server:
        time.sleep(trial.scale.settle_seconds)
        (seen,) = usage.idleness([server.pid], trial.scale.idle_seconds)
    figures = {
        "idle_rss_mib": seen.rss_mib,
        "idle_cpu_percent": seen.cpu_percent,
        "idle_wakeups": seen.wakeups_per_second,
    }
    return Outcome(figures, asdict(seen))


IDLE = Measurement("idle", "an idle node", idle, rounds=1)
