"""The same load on a large store: lists, watches under lists, and the memory that it all takes."""

from __future__ import annotations

from bench.measure.small import rates
from bench.trial import Measurement, Outcome, Trial


def large(trial: Trial) -> Outcome:
    """Peak memory is read before deletes would matter, lists included."""
    scale = trial.scale
    with trial.server() as server:
        names = ("create", "update", "get", "list", "stream", "paged", "listwatch")
        flags = {"paged_repeats": scale.large_paged_repeats}
        phases = trial.load(server, scale.large_objects, *names, **flags)
        used = trial.usage(server)
    figures = {
        **rates(phases, "large_", "create", "update", "get"),
        **{f"large_{name}_ms": phases[name]["p50_ms"] for name in ("list", "stream", "paged")},
        "large_watch_p50_ms": phases["listwatch"]["event_p50_ms"],
        "large_watch_p99_ms": phases["listwatch"]["event_p99_ms"],
        "large_rss_peak_mib": used.rss_peak_mib,
    }
    return Outcome(figures, {"phases": phases})


LARGE = Measurement("large", "the load on a large store", large)
