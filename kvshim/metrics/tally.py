"""Metrics of what happens with every call or batch: plain numbers, read when somebody scrapes.

`prometheus_client.Counter` takes a lock for each increment, which seven times a call is a twentieth
of what a write costs on the event loop, and its `Histogram` takes two. Each of these is changed by
one thread only.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Tally:
    """A number that only grows."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0


class TallyFamily(Collector):
    """The tallies of one metric, by the values of its labels."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        """`name` ends in `_total`."""
        self._name = name
        self._text = text
        self._labels = labels
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        """The tally of these values, one for each of the labels; the same one every time."""
        assert len(values) == len(self._labels)
        return self._tallies.setdefault(values, Tally())

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What a scrape sees; any thread."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, tally in self._tallies.copy().items():
            family.add_metric(values, tally.total)
        yield family


class TallyHistogram(Collector):
    """How often values came that lie within each bucket; `buckets` are upper bounds, rising."""

    def __init__(
        self, name: str, text: str, buckets: Sequence[float], *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self._bounds = [*buckets, math.inf]
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What a scrape sees; any thread. A value that comes meanwhile may lack in the sum."""
        totals = accumulate(self._counts.copy())
        buckets = [
            (floatToGoString(bound), total)  # type: ignore[no-untyped-call]
            for bound, total in zip(self._bounds, totals, strict=True)
        ]
        yield HistogramMetricFamily(self._name, self._text, buckets, self._sum)
