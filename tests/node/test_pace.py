"""A disk that is slow as a rule is told of, one that is slow now and then is not."""

from __future__ import annotations

from collections.abc import Iterable

from kvshim.node.pace import PAUSE_SECONDS, WRITES, DiskPace


def told(pace: DiskPace, writes: Iterable[float]) -> list[float]:
    return [median for seconds in writes if (median := pace.slow_median(seconds)) is not None]


def test_most_writes_slow_are_told_and_then_not_for_a_while() -> None:
    now = [0.0]
    pace = DiskPace(lambda: now[0])
    assert told(pace, [0.030] * (WRITES - 1)) == []
    assert told(pace, [0.030]) == [0.030]
    assert told(pace, [0.030] * 10 * WRITES) == []
    now[0] += PAUSE_SECONDS
    assert told(pace, [0.030] * WRITES) == [0.030]


def test_spikes_of_a_good_disk_are_not() -> None:
    assert told(DiskPace(), [0.001, 0.001, 0.300] * 10 * WRITES) == []


def test_the_last_write_is_known():
    pace = DiskPace()
    told(pace, [0.001, 0.300])
    assert pace.newest_seconds == 0.300
