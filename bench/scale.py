"""How much is asked of each server: one frozen value, small, usual or full."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes and durations of all measurements; the defaults are what figures compare by."""

    objects: int = 5_000
    large_objects: int = 200_000
    value_bytes: int = 1024
    watchers: int = 100
    watch_rate: int = 200
    watch_seconds: float = 10.0
    list_repeats: int = 3
    large_paged_repeats: int = 1
    get_passes: int = 6
    changes: int = 300_000
    storm_seconds: float = 20.0
    settle_seconds: float = 5.0
    idle_seconds: float = 20.0
    starts: int = 3
    wal_mib: int = 200
    hour_seconds: float = 3600.0
    hour_rate: int = 300
    compact_seconds: float = 60.0
    sample_seconds: float = 5.0
    timeout_seconds: float = 3600.0
    """Limit of one run of the load generator."""
