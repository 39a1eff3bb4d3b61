"""Metrics of consensus, apply and health: what etcd shows as `etcd_server_*`.

Counters and histograms are incremented where things happen, on any thread; callbacks are read at
each scrape. Some names end in `_total` although they are gauges: they are so in etcd, because the
value is a position in the log and not a count of calls.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from kvshim.metrics.instruments import BATCH_SIZES, DISK_SECONDS, Callbacks
from kvshim.metrics.tally import TallyHistogram


class ServerMetrics:
    """The member's place in the cluster and the way of a proposal."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lazy = Callbacks(registry)
        self.has_leader = lazy.gauge(
            "etcd_server_has_leader", "1 while this member knows a leader, else 0."
        )
        self.is_leader = lazy.gauge(
            "etcd_server_is_leader", "1 while this member is the leader, else 0."
        )
        self.is_learner = lazy.gauge(
            "etcd_server_is_learner", "1 while this member is a learner, else 0."
        )
        self.leader_changes_seen = lazy.counter(
            "etcd_server_leader_changes_seen_total", "Leader changes this member has seen."
        )
        self.proposals_committed = lazy.gauge(
            "etcd_server_proposals_committed_total", "Index of the last committed log entry."
        )
        self.proposals_applied = lazy.gauge(
            "etcd_server_proposals_applied_total", "Index of the last applied log entry."
        )
        self.proposals_pending = lazy.gauge(
            "etcd_server_proposals_pending", "Proposals waiting for their result."
        )
        self.proposals_failed = lazy.counter(
            "etcd_server_proposals_failed_total", "Proposals that ended without a known result."
        )
        self.slow_apply = Counter(
            "etcd_server_slow_apply_total",
            "Apply batches slower than the warning threshold.",
            registry=registry,
        )
        self.read_indexes_failed = lazy.counter(
            "etcd_server_read_indexes_failed_total", "Read index requests that failed."
        )
        self.lease_expired = lazy.counter(
            "etcd_debugging_server_lease_expired_total",
            "Leases that ran out and were given up for revocation.",
        )
        self.quota_backend_bytes = lazy.gauge(
            "etcd_server_quota_backend_bytes", "Bytes the store may take before NOSPACE is raised."
        )
        self._identity(registry)

    def _identity(self, registry: CollectorRegistry) -> None:
        self._version = Gauge(
            "etcd_server_version",
            "Always 1; the label is the version of the etcd API served.",
            ["server_version"],
            registry=registry,
        )
        self._id = Gauge(
            "etcd_server_id",
            "Always 1; the label is the member's id in hexadecimal.",
            ["server_id"],
            registry=registry,
        )
        self._cluster_version = Gauge(
            "etcd_cluster_version",
            "1 for the label with the version the whole cluster can serve.",
            ["cluster_version"],
            registry=registry,
        )

    def identify(self, server_version: str, member_id: int) -> None:
        """Say once, at start, who this member is."""
        self._version.labels(server_version).set(1)
        self._id.labels(f"{member_id:x}").set(1)

    def set_cluster_version(self, version: str) -> None:
        """Show the cluster's version, in place of the one before."""
        self._cluster_version.clear()
        self._cluster_version.labels(version).set(1)


class ApplyMetrics:
    """Batches: how many commands share one transaction, and how many entries one fsync."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batch_size = TallyHistogram(
            "kvshim_apply_batch_size",
            "Commands applied in one SQLite transaction.",
            buckets=BATCH_SIZES,
            registry=registry,
        )
        self.batch_seconds = TallyHistogram(
            "kvshim_apply_batch_duration_seconds",
            "Time to apply and commit one batch.",
            buckets=DISK_SECONDS,
            registry=registry,
        )


class HealthMetrics:
    """Outcomes of `/health`, `/livez` and `/readyz`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # etcd's names lack the _total that a Prometheus counter must have, so these are gauges.
        self.health_success = Gauge(
            "etcd_server_health_success", "Answers of /health that said true.", registry=registry
        )
        self.health_failures = Gauge(
            "etcd_server_health_failures", "Answers of /health that said false.", registry=registry
        )
        self._healthcheck = Gauge(
            "etcd_server_healthcheck",
            "1 if the last run of the check passed, 0 if it failed.",
            ["type", "name"],
            registry=registry,
        )
        self._healthchecks = Counter(
            "etcd_server_healthchecks_total",
            "Runs of each check by outcome.",
            ["type", "name", "status"],
            registry=registry,
        )

    def check_passed(self, check_type: str, name: str) -> None:
        self._healthcheck.labels(check_type, name).set(1)
        self._healthchecks.labels(check_type, name, "success").inc()

    def check_failed(self, check_type: str, name: str) -> None:
        self._healthcheck.labels(check_type, name).set(0)
        self._healthchecks.labels(check_type, name, "error").inc()
