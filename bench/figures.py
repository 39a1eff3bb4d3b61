"""From the records of a run to the figures that are shown: medians, ratios, verdicts. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.goals import Figure, shown

Record = dict[str, Any]
OURS, THEIRS = "kvshim", "etcd"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure with what came of it: a median for each server, and how the goal fared."""

    figure: Figure
    medians: dict[str, float]

    @property
    def ratio(self) -> float | None:
        """kvshim / etcd; None where one is missing, or etcd's is 0 as short CPU times may be."""
        ours, theirs = self.medians.get(OURS), self.medians.get(THEIRS)
        return ours / theirs if ours is not None and theirs else None

    @property
    def margin(self) -> float | None:
        """How many times as good as the goal."""
        return self.figure.margin(self.medians.get(OURS), self.ratio)

    @property
    def verdict(self) -> str:
        """Whether the goal is met; empty without a goal or without what it takes to say."""
        if self.margin is None:
            return ""
        return "met" if self.margin >= 1 else "not met"


def medians(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """For each figure and server the median over all rounds that have it."""
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for name, value in record["figures"].items():
            values.setdefault(name, {}).setdefault(record["server"], []).append(value)
    return {
        name: {server: statistics.median(found) for server, found in by_server.items()}
        for name, by_server in values.items()
    }


def lines(run: dict[str, Any]) -> list[Line]:
    """The table of a run: what its measurements show, in the order of the goals."""
    found = run["medians"]
    figures = shown(run["measurements"])
    return [Line(figure, found[figure.name]) for figure in figures if figure.name in found]
