"""From the records of a measurement to the figures that are shown: medians and ratios. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

Record = dict[str, Any]


class Better(Enum):
    """Which way a figure should go."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: where in a record it is found, and how it is shown.

    `phase` names the phase it belongs to; without that phase in the load there is no such line.
    """

    name: str
    label: str
    better: Better
    digits: int
    phase: str | None
    read: Callable[[Record], float]


def _lower(name: str, label: str, phase: str, key: str) -> Figure:
    return Figure(name, label, Better.LOWER, 1, phase, _reader(phase, key))


def _rate(phase: str) -> Figure:
    read = _reader(phase, "per_second")
    return Figure(f"{phase}_per_second", f"{phase}/s", Better.HIGHER, 0, phase, read)


def _reader(phase: str, key: str) -> Callable[[Record], float]:
    return lambda record: record["result"]["phases"][phase][key]


def _cpu_per_operation(phase: str) -> Figure:
    def read(record: Record) -> float:
        measured = record["result"]["phases"][phase]
        return float(1e6 * measured["server_cpu_seconds"] / measured["operations"])

    name, label = f"{phase}_cpu_us", f"server CPU us per {phase}"
    return Figure(name, label, Better.LOWER, 0, phase, read)


def _usage(name: str, label: str, digits: int) -> Figure:
    return Figure(name, label, Better.LOWER, digits, None, lambda record: record["usage"][name])


WRITES_AND_GETS = ("create", "update", "get", "delete")
FIGURES: Sequence[Figure] = (
    *(_rate(phase) for phase in WRITES_AND_GETS),
    *(_lower(f"{phase}_p99_ms", f"{phase} p99 ms", phase, "p99_ms") for phase in WRITES_AND_GETS),
    _lower("list_ms", "list all ms", "list", "p50_ms"),
    _lower("paged_ms", "list paged ms", "paged", "p50_ms"),
    _lower("stream_ms", "list by RangeStream ms", "stream", "p50_ms"),
    _lower("watch_p50_ms", "watch p50 ms", "watch", "event_p50_ms"),
    _lower("watch_p99_ms", "watch p99 ms", "watch", "event_p99_ms"),
    _lower("watch_cpu_seconds", "server CPU s while watching", "watch", "server_cpu_seconds"),
    _usage("cpu_seconds", "server CPU s, whole load", 1),
    *(_cpu_per_operation(phase) for phase in WRITES_AND_GETS),
    _usage("rss_mib", "RSS now MiB", 0),
    _usage("rss_peak_mib", "RSS peak MiB", 0),
    _usage("written_mib", "written to disk MiB", 0),
    _usage("data_dir_mib", "data directory MiB", 0),
    Figure("start_seconds", "start s", Better.LOWER, 2, None, lambda one: one["start_seconds"]),
)


def shown(phases: Sequence[str]) -> list[Figure]:
    """The figures that a load of these phases has."""
    return [figure for figure in FIGURES if figure.phase is None or figure.phase in phases]


def medians(records: Sequence[Record], phases: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each server, the median of each figure over its rounds."""
    servers = dict.fromkeys(record["server"] for record in records)
    return {
        server: {
            figure.name: statistics.median(
                figure.read(record) for record in records if record["server"] == server
            )
            for figure in shown(phases)
        }
        for server in servers
    }


def ratios(of: dict[str, float], to: dict[str, float]) -> dict[str, float | None]:
    """Figure by figure `of` / `to`; None where `to` is 0, as a short phase's CPU time may be."""
    return {name: of[name] / to[name] if to[name] else None for name in of}
