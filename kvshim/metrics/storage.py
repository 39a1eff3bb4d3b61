"""Metrics of disks, the store, watches and leases.

The store and the hub keep plain integers; these read them at each scrape, so that a scrape with
nobody watching costs nothing and the rooms below import nothing of Prometheus.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from kvshim.metrics.instruments import (
    DISK_SECONDS,
    Callbacks,
)
from kvshim.metrics.tally import TallyHistogram


class DiskMetrics:
    """The two SQLite files: fsyncs, commits, checkpoints, write-ahead logs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lazy = Callbacks(registry)
        self.wal_fsync_seconds = TallyHistogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "Time to make a batch of log entries durable in raft.db.",
            buckets=DISK_SECONDS,
            registry=registry,
        )
        self.backend_commit_seconds = TallyHistogram(
            "etcd_disk_backend_commit_duration_seconds",
            "Time of one COMMIT of kv.db.",
            buckets=DISK_SECONDS,
            registry=registry,
        )
        self.checkpoint_seconds = TallyHistogram(
            "kvshim_checkpoint_duration_seconds",
            "Time of one checkpoint of kv.db.",
            buckets=DISK_SECONDS,
            registry=registry,
        )
        self.wal_size_bytes = lazy.gauge(
            "kvshim_wal_size_bytes", "Size of the write-ahead log of kv.db."
        )
        self.wal_pinned_seconds = lazy.gauge(
            "kvshim_wal_pinned_seconds",
            "For how long a reader has kept the write-ahead log of kv.db from being reset.",
        )
        self.durable_index = lazy.gauge(
            "kvshim_durable_index", "Log index up to which kv.db survives a power cut by itself."
        )


class MvccMetrics:
    """Revisions, keys, sizes and operations of the store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lazy = Callbacks(registry)
        self.db_total_size = lazy.gauge(
            "etcd_mvcc_db_total_size_in_bytes",
            "Size of kv.db on disk, without its write-ahead log.",
        )
        self.db_total_size_in_use = lazy.gauge(
            "etcd_mvcc_db_total_size_in_use_in_bytes", "Size of the pages of kv.db that hold data."
        )
        self.current_revision = lazy.gauge(
            "etcd_debugging_mvcc_current_revision", "Revision of the store."
        )
        self.compact_revision = lazy.gauge(
            "etcd_debugging_mvcc_compact_revision", "Revision of the last compaction."
        )
        self.physically_compacted_revision = lazy.gauge(
            "kvshim_physically_compacted_revision",
            "Revision up to which compacted rows are already deleted.",
        )
        self.damaged = lazy.counter(
            "kvshim_mvcc_damaged_total", "Stored versions that the scrub found damaged."
        )
        self.differing = lazy.counter(
            "kvshim_members_differing_total",
            "Members that this one, as leader, found to hold different data.",
        )
        self.resyncs = lazy.counter(
            "kvshim_store_resyncs_total", "Times that the leader's store took this one's place."
        )
        self.keys = lazy.gauge("etcd_debugging_mvcc_keys_total", "Live keys.")
        self.put = lazy.counter("etcd_mvcc_put_total", "Keys put by this member's apply.")
        self.delete = lazy.counter("etcd_mvcc_delete_total", "Keys deleted by this member's apply.")
        self.txn = lazy.counter(
            "etcd_mvcc_txn_total", "Writing transactions applied by this member."
        )


class WatchMetrics:
    """The event hub."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lazy = Callbacks(registry)
        self.watchers = lazy.gauge("etcd_debugging_mvcc_watcher_total", "Open watches.")
        self.slow_watchers = lazy.gauge(
            "etcd_debugging_mvcc_slow_watcher_total", "Open watches that are catching up."
        )
        self.streams = lazy.gauge("etcd_debugging_mvcc_watch_stream_total", "Open watch streams.")
        self.events = lazy.counter(
            "etcd_debugging_mvcc_events_total", "Events sent to watchers by this member."
        )
        self.pending_events = lazy.gauge(
            "etcd_debugging_mvcc_pending_events_total", "Events queued for watchers, not yet sent."
        )


class LeaseMetrics:
    """The lessor."""

    def __init__(self, registry: CollectorRegistry) -> None:
        lazy = Callbacks(registry)
        self.granted = lazy.counter("etcd_debugging_lease_granted_total", "Leases granted.")
        self.revoked = lazy.counter(
            "etcd_debugging_lease_revoked_total", "Leases revoked or expired."
        )
        self.renewed = lazy.counter(
            "etcd_debugging_lease_renewed_total", "Renewals that this member did as the leader."
        )
