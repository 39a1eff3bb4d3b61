"""Tells the metrics where to read their numbers: the rooms below know nothing of Prometheus."""

from __future__ import annotations

from kvshim.mvcc.store import Store
from kvshim.node.parts import Parts
from kvshim.types import KeyRange
from kvshim.version import ETCD_VERSION, etcd_cluster_version


def wire_metrics(parts: Parts) -> None:
    """Connect every callback of `Metrics`; called once, when the node serves."""
    _wire_server(parts)
    _wire_store(parts)
    _wire_watch_and_leases(parts)


def _wire_server(parts: Parts) -> None:
    server, log, store = parts.metrics.server, parts.log, parts.storage.store
    server.has_leader.read_from(lambda: float(log.status().leader_id != 0))
    server.is_leader.read_from(lambda: float(log.status().leader_id == log.status().member_id))
    server.is_learner.read_from(
        lambda: float(log.status().member_id in log.status().membership.learners)
    )
    server.leader_changes_seen.read_from(lambda: parts.leadership.changes_seen)
    server.proposals_committed.read_from(lambda: log.status().commit_index)
    server.proposals_applied.read_from(lambda: store.applied_index)
    server.proposals_pending.read_from(lambda: parts.delivery.proposer.pending)
    server.proposals_failed.read_from(lambda: parts.delivery.proposer.failed_total)
    server.read_indexes_failed.read_from(lambda: parts.delivery.reader.failed_total)
    server.quota_backend_bytes.read_from(lambda: parts.delivery.quota.limit_bytes)
    server.identify(ETCD_VERSION, log.status().member_id)

    def show_version() -> None:
        server.set_cluster_version(etcd_cluster_version(parts.delivery.version.current))

    parts.delivery.version.on_change(show_version)
    show_version()


def _wire_store(parts: Parts) -> None:
    store = parts.storage.store
    disk, mvcc = parts.metrics.disk, parts.metrics.mvcc
    # `store.backend` is looked up each time: a snapshot puts another in its place.
    disk.wal_size_bytes.read_from(lambda: store.backend.sizes().wal_bytes)
    disk.wal_pinned_seconds.read_from(lambda: store.backend.pinned_seconds())  # noqa: PLW0108
    disk.durable_index.read_from(lambda: store.backend.durable_index())  # noqa: PLW0108
    mvcc.db_total_size.read_from(lambda: store.backend.sizes().db_bytes)
    mvcc.db_total_size_in_use.read_from(lambda: store.backend.sizes().db_bytes_in_use)
    mvcc.put.read_from(lambda: parts.machine.puts_total)
    mvcc.delete.read_from(lambda: parts.machine.deletions_total)
    mvcc.txn.read_from(lambda: parts.machine.txns_total)
    mvcc.damaged.read_from(lambda: parts.same.scrubber.faults_total)
    mvcc.differing.read_from(lambda: parts.same.divergence.differences_total)
    mvcc.resyncs.read_from(lambda: parts.same.resync.resyncs_total)
    mvcc.keys.read_from(lambda: _count_keys(store))
    mvcc.current_revision.read_from(lambda: store.revision)
    mvcc.compact_revision.read_from(lambda: store.compact_revision)
    mvcc.physically_compacted_revision.read_from(lambda: store.physically_compacted)


def _count_keys(store: Store) -> int:
    """Some ten milliseconds for a large store, on the thread that renders the page."""
    with store.read() as view:
        return view.count(KeyRange(b"", None))


def _wire_watch_and_leases(parts: Parts) -> None:
    hub, watch = parts.delivery.hub, parts.metrics.watch
    watch.watchers.read_from(lambda: hub.watcher_count)
    watch.slow_watchers.read_from(lambda: hub.slow_watcher_count)
    watch.streams.read_from(lambda: hub.stream_count)
    watch.events.read_from(lambda: hub.events_total)
    watch.pending_events.read_from(lambda: hub.pending_events)
    lessor, lease = parts.delivery.lessor, parts.metrics.lease
    lease.granted.read_from(lambda: lessor.granted_total)
    lease.revoked.read_from(lambda: lessor.revoked_total)
    lease.renewed.read_from(lambda: lessor.renewed_total)
    parts.metrics.server.lease_expired.read_from(lambda: lessor.expired_total)
