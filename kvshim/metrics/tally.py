"""Counters for what happens with every call: plain numbers, read when somebody scrapes.

`prometheus_client.Counter` takes a lock for each increment, which seven times a call is a twentieth
of what a write costs on the event loop. These are incremented by that one thread only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector


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
