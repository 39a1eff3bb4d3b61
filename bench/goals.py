"""The figures that are measured, in the order they are shown, each with its goal. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import assert_never


class Better(Enum):
    """Which way a figure should go."""

    HIGHER = "higher"
    LOWER = "lower"


class Of(Enum):
    """What a goal speaks of: kvshim's figure as a multiple of etcd's, or kvshim's alone."""

    RATIO = "ratio"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Goal:
    """At least this much where higher is better, at most where lower is."""

    of: Of
    limit: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; `measurement` is who measures it."""

    measurement: str
    name: str
    label: str
    better: Better
    digits: int
    goal: Goal | None = None

    def goal_text(self) -> str:
        """As in "<= 0.8x"; empty without a goal."""
        if self.goal is None:
            return ""
        sign = ">=" if self.better is Better.HIGHER else "<="
        unit = "x" if self.goal.of is Of.RATIO else ""
        return f"{sign} {self.goal.limit:g}{unit}"

    def subject(self, value: float | None, ratio: float | None) -> float | None:
        """What the goal speaks of, given kvshim's figure and its ratio to etcd's."""
        if self.goal is None:
            return None
        match self.goal.of:
            case Of.RATIO:
                return ratio
            case Of.VALUE:
                return value
            case _ as never:
                assert_never(never)

    def margin(self, value: float | None, ratio: float | None) -> float | None:
        """How many times as good as the goal; 1 just meets it. None if that cannot be said."""
        subject = self.subject(value, ratio)
        if self.goal is None or subject is None:
            return None
        if self.better is Better.HIGHER:
            return subject / self.goal.limit
        return self.goal.limit / subject if subject else float("inf")


def _ratio(limit: float) -> Goal:
    return Goal(Of.RATIO, limit)


def _value(limit: float) -> Goal:
    return Goal(Of.VALUE, limit)


def _rate(measurement: str, name: str, label: str, goal: Goal | None = None) -> Figure:
    return Figure(measurement, name, label, Better.HIGHER, 0, goal)


def _low(
    measurement: str, name: str, label: str, digits: int = 1, goal: Goal | None = None
) -> Figure:
    return Figure(measurement, name, label, Better.LOWER, digits, goal)


FIGURES: Sequence[Figure] = (
    _rate("load", "create_per_second", "create/s", _ratio(1.3)),
    _rate("load", "update_per_second", "update/s", _ratio(1.3)),
    _rate("load", "delete_per_second", "delete/s", _ratio(1.3)),
    _low("load", "put_cpu_us", "server CPU us per put", 0, _ratio(0.8)),
    _low("load", "create_p99_ms", "create p99 ms"),
    _low("load", "update_p99_ms", "update p99 ms"),
    _low("load", "delete_p99_ms", "delete p99 ms"),
    _low("load", "list_ms", "list all ms", 1, _ratio(0.8)),
    _low("load", "stream_ms", "list by RangeStream ms"),
    _low("load", "paged_ms", "list in pages ms"),
    _low("load", "rss_mib", "RSS at the end MiB", 0),
    _low("load", "rss_peak_mib", "RSS peak MiB", 0),
    _rate("tls", "tls_create_per_second", "TLS: create/s", _ratio(1.5)),
    _rate("tls", "tls_update_per_second", "TLS: update/s", _ratio(1.5)),
    _rate("tls", "tls_delete_per_second", "TLS: delete/s", _ratio(1.5)),
    _rate("tls", "tls_get_per_second", "TLS: get/s"),
    _low("tls", "tls_put_cpu_us", "TLS: server CPU us per put", 0),
    _rate("get", "get_per_second", "get/s", _ratio(1.0)),
    _low("get", "get_cpu_us", "server CPU us per get", 0, _ratio(0.9)),
    _low("get", "get_p99_ms", "get p99 ms"),
    _rate("three", "three_writes_per_second", "three nodes: writes/s", _ratio(1.2)),
    _rate("three", "three_gets_per_second", "three nodes: gets/s", _ratio(1.0)),
    _low("three", "three_rss_peak_mib", "three nodes: RSS peak of a member MiB", 0),
    _low("watch", "watch_p50_ms", "watch p50 ms", 1, _ratio(1.2)),
    _low("watch", "watch_p99_ms", "watch p99 ms", 1, _ratio(1.2)),
    _low("watch", "put_p50_ms", "put under watches p50 ms"),
    _low("watch", "put_p99_ms", "put under watches p99 ms"),
    _low("watch", "put_p999_ms", "put under watches p99.9 ms"),
    _rate("large", "large_create_per_second", "large: create/s"),
    _rate("large", "large_update_per_second", "large: update/s"),
    _rate("large", "large_get_per_second", "large: get/s"),
    _low("large", "large_list_ms", "large: list all ms", 0, _ratio(0.6)),
    _low("large", "large_stream_ms", "large: list by RangeStream ms", 0, _ratio(0.6)),
    _low("large", "large_paged_ms", "large: list in pages ms", 0, _ratio(0.1)),
    _low("large", "large_watch_p50_ms", "large: watch p50 under lists ms", 1, _ratio(0.8)),
    _low("large", "large_watch_p99_ms", "large: watch p99 under lists ms", 1, _ratio(0.8)),
    _low("large", "large_rss_peak_mib", "large: RSS peak MiB", 0, _ratio(0.12)),
    _low("old", "old_page_multiple", "page far back / page at head", 2, _value(3)),
    _low("old", "old_get_ms", "get far back ms", 2, _value(1)),
    _low("lag", "lag_p999_ms", "loop lag under a storm p99.9 ms", 1, _value(20)),
    _low("lag", "lag_max_ms", "loop lag under a storm, bucket of the longest, ms", 0),
    _low("start", "start_seconds", "large: start to ready s", 2, _value(1)),
    _low("start", "killed_start_seconds", "large: start after SIGKILL s", 2, _value(5)),
    _low("idle", "idle_rss_mib", "idle: RSS MiB", 0, _value(60)),
    _low("idle", "idle_cpu_percent", "idle: CPU %", 2, _value(1)),
    _low("idle", "idle_wakeups", "idle: wake-ups /s", 0, _value(30)),
    _low("calm", "three_idle_cpu_percent", "three nodes idle: CPU of a member %", 2, _value(1)),
    _low("calm", "three_idle_wakeups", "three nodes idle: wake-ups of a member /s", 0, _value(30)),
    _low("disk", "disk_kib_per_put", "KiB written per put", 1, _ratio(1.0)),
    _low("hour", "hour_rss_growth", "long load: RSS, end / early", 2, _value(1.1)),
    _low("hour", "hour_wal_growth", "long load: WALs, end / early", 2, _value(1.1)),
    _low("hour", "hour_file_growth", "long load: files, end / early", 2, _value(1.1)),
    _low("hour", "hour_rss_mib", "long load: RSS at the end MiB", 0),
    _low("hour", "hour_wal_mib", "long load: WALs at the end MiB", 0),
    _low("hour", "hour_file_mib", "long load: files at the end MiB", 0),
    _low("hour", "hour_put_p99_ms", "long load: put p99 ms"),
)


def shown(measurements: Sequence[str]) -> list[Figure]:
    """The figures of these measurements."""
    return [figure for figure in FIGURES if figure.measurement in measurements]
