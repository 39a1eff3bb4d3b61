"""How late kvshim's event loop runs its timers while everything that is long happens at once."""

from __future__ import annotations

from bench import histogram
from bench.load import LoadError
from bench.trial import Measurement, Outcome, Trial
from conformance.servers import Kind

METRIC = "kvshim_loop_lag_seconds"
SAMPLES_MIN = 500
"""Fewer would say little of the last thousandth."""


def lag(trial: Trial) -> Outcome:
    """Four clients list a large store, one copies it, others log in; from the server's metric."""
    scale = trial.scale
    with trial.secure_server() as server:
        trial.load(server, scale.large_objects, "fill")
        before = histogram.buckets(server.metrics(), METRIC)
        duration = f"{scale.storm_seconds}s"
        storm = trial.load(server, scale.large_objects, "storm", storm_duration=duration)
        seen = histogram.between(before, histogram.buckets(server.metrics(), METRIC))
    samples = histogram.count(seen)
    if samples < SAMPLES_MIN * scale.storm_seconds / 20:
        raise LoadError(f"only {samples} samples of {METRIC} in {scale.storm_seconds} s of storm")
    figures = {
        "lag_p999_ms": 1000 * histogram.quantile(seen, 0.999),
        "lag_max_ms": 1000 * histogram.quantile(seen, 1.0),
    }
    return Outcome(figures, {"samples": samples, "storm": storm["storm"]})


LAG = Measurement("lag", "loop lag under a storm", lag, rounds=1, servers=(Kind.KVSHIM,))
