"""What a put costs the disk."""

from __future__ import annotations

import time

from bench.trial import Measurement, Outcome, Trial
from conformance.servers import Datastore

QUIET_SECONDS = 6.0  # longer than either server waits before it writes what it holds back
LOOKS_MAX = 10


def disk(trial: Trial) -> Outcome:
    """Bytes that the kernel counts as written, until the server has written all it held back."""
    with trial.server() as server:
        before = trial.usage(server).written_mib
        objects = 2 * trial.scale.objects
        phases = trial.load(server, objects, "create", "update")
        written_mib = _settled(trial, server) - before
    puts = sum(phases[name]["operations"] for name in ("create", "update"))
    return Outcome({"disk_kib_per_put": 1024 * written_mib / puts}, {"phases": phases})


def _settled(trial: Trial, server: Datastore) -> float:
    seen = trial.usage(server).written_mib
    for _ in range(LOOKS_MAX):
        time.sleep(QUIET_SECONDS)
        now = trial.usage(server).written_mib
        if now - seen < 0.01 * now:
            return now
        seen = now
    return seen


DISK = Measurement("disk", "bytes written per put", disk, rounds=1)
