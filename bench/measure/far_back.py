"""Reads at a revision far back against reads at head."""

from __future__ import annotations

from bench.trial import Measurement, Outcome, Trial
from conformance.servers import Kind


def old(trial: Trial) -> Outcome:
    """A page and a single get, after many changes of the same objects."""
    scale = trial.scale
    with trial.server() as server:
        phases = trial.load(server, scale.objects, "create", "old", changes=scale.changes)
    found = phases["old"]
    figures = {
        "old_page_multiple": found["old_page_ms"] / found["head_page_ms"],
        "old_get_ms": found["old_get_ms"],
    }
    return Outcome(figures, {"phases": phases})


OLD = Measurement("old", "reads far back", old, rounds=1, servers=(Kind.KVSHIM,))
