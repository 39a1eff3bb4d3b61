"""Numbers that are read when somebody scrapes, and the bucket layouts that etcd uses.

A `Callback` costs nothing between scrapes: the rooms below keep plain integers and know nothing
of metrics. Its function runs on the thread that renders the page, so it must be cheap, must not
block and must be safe to call from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Upper bounds of `count` buckets, each `factor` times the one before."""
    return tuple(start * factor**step for step in range(count))


DISK_SECONDS = exponential(0.001, 2, 14)
"""1 ms to 8.192 s: etcd's layout for everything that waits for a disk."""

BATCH_SIZES = exponential(1, 2, 13)
PAUSE_SECONDS = tuple(sorted((*exponential(0.0005, 2, 14), 0.02)))
"""0.5 ms to 4.096 s, and the goal, 20 ms: pauses of the event loop and of the collector."""


class CallbackKind(Enum):
    GAUGE = "gauge"
    COUNTER = "counter"


class Callback(Collector):
    """One number, asked for at each scrape. Until someone says where from, it is not shown."""

    def __init__(
        self, registry: CollectorRegistry, kind: CallbackKind, name: str, documentation: str
    ) -> None:
        self.name = name
        self._kind = kind
        self._documentation = documentation
        self._function: Callable[[], float] | None = None
        registry.register(self)

    @property
    def is_wired(self) -> bool:
        return self._function is not None

    def read_from(self, function: Callable[[], float]) -> None:
        """Show what `function` returns; a later call replaces it."""
        self._function = function

    def describe(self) -> Iterable[Metric]:
        """The family without its value, by which the registry refuses a second one of the name."""
        return [self._family(None)]

    def collect(self) -> Iterable[Metric]:
        function = self._function
        return [] if function is None else [self._family(float(function()))]

    def _family(self, value: float | None) -> Metric:
        match self._kind:
            case CallbackKind.GAUGE:
                return GaugeMetricFamily(self.name, self._documentation, value=value)
            case CallbackKind.COUNTER:
                return CounterMetricFamily(self.name, self._documentation, value=value)


class Callbacks:
    """Makes the callbacks of one group on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def gauge(self, name: str, documentation: str) -> Callback:
        return Callback(self._registry, CallbackKind.GAUGE, name, documentation)

    def counter(self, name: str, documentation: str) -> Callback:
        return Callback(self._registry, CallbackKind.COUNTER, name, documentation)
