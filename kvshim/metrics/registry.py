"""All metrics of one node, and the page that Prometheus reads.

One `Metrics` per node, made at start and handed to the rooms that count. `docs/metrics.md` lists
every name; a test keeps both equal.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from kvshim.config import MetricsLevel
from kvshim.metrics.calls import CallMetrics
from kvshim.metrics.instruments import Callback
from kvshim.metrics.runtime import RuntimeMetrics
from kvshim.metrics.server import ApplyMetrics, HealthMetrics, ServerMetrics
from kvshim.metrics.storage import DiskMetrics, LeaseMetrics, MvccMetrics, WatchMetrics

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """Every metric by its group. Increments are safe on any thread."""

    def __init__(self, level: MetricsLevel = MetricsLevel.BASIC) -> None:
        # Otherwise each counter brings a second series with the time it was made.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.server = ServerMetrics(self.registry)
        self.apply = ApplyMetrics(self.registry)
        self.disk = DiskMetrics(self.registry)
        self.mvcc = MvccMetrics(self.registry)
        self.watch = WatchMetrics(self.registry)
        self.lease = LeaseMetrics(self.registry)
        self.calls = CallMetrics(self.registry, level)
        self.health = HealthMetrics(self.registry)
        self.runtime = RuntimeMetrics(self.registry)

    def render(self) -> bytes:
        """The page in Prometheus' text format. Takes milliseconds: call it off the event loop."""
        return generate_latest(self.registry)

    def unwired(self) -> list[str]:
        """Names that are defined but read from nowhere; a complete node has none."""
        groups = (self.server, self.apply, self.disk, self.mvcc, self.watch, self.lease)
        members = [member for group in groups for member in vars(group).values()]
        return [m.name for m in members if isinstance(m, Callback) and not m.is_wired]
