"""What the rooms below report as they work, turned into named log lines and metrics.

Each method is somebody's callback and says whose thread it runs on; all are quick.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kvshim.apply.machine import BatchTiming
from kvshim.apply.outcome import AlarmChanged
from kvshim.logs import Event, Logger
from kvshim.metrics.registry import Metrics
from kvshim.mvcc.scrub import Fault
from kvshim.node.pace import DiskPace
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import Revision


@dataclass(frozen=True, slots=True)
class Reports:
    """`slow_apply_seconds` is `--warning-apply-duration`."""

    logger: Logger
    metrics: Metrics
    slow_apply_seconds: float
    pace: DiskPace = field(default_factory=DiskPace)

    def fsynced(self, seconds: float) -> None:
        """The log thread made a batch durable."""
        self.metrics.disk.wal_fsync_seconds.observe(seconds)
        median = self.pace.slow_median(seconds)
        if median is not None:
            self.logger.warn(Event.SLOW_DISK, median_seconds=round(median, 3))

    def sync_seconds(self) -> float:
        """How long the log's last write took; log thread."""
        return self.pace.newest_seconds

    def snapshot_sent(self, member: int, index: int, reason: str) -> None:
        """A snapshot for another member arrived, or did not; event loop."""
        named = f"{member:x}"
        if reason:
            self.logger.warn(Event.SNAPSHOT_FAILED, member_id=named, reason=reason)
        else:
            self.logger.info(Event.SNAPSHOT_SENT, member_id=named, index=index)

    def slow_fsync(self, seconds: float) -> None:
        """The log thread waited long for the disk."""
        self.logger.warn(Event.SLOW_FSYNC, took_seconds=round(seconds, 3))

    def applied(self, timing: BatchTiming) -> None:
        """A batch is applied; the thread that applied it."""
        self.metrics.apply.batch_seconds.observe(timing.seconds)
        self.metrics.apply.batch_size.observe(timing.entries)
        for seconds in timing.commit_seconds:
            self.metrics.disk.backend_commit_seconds.observe(seconds)
        if timing.seconds > self.slow_apply_seconds:
            self.metrics.server.slow_apply.inc()
            took = round(timing.seconds, 3)
            self.logger.warn(Event.SLOW_APPLY, took_seconds=took, entries=timing.entries)

    def compacted(self, revision: Revision) -> None:
        """The apply thread removed the last row of a compaction."""
        self.logger.info(Event.COMPACTION_FINISHED, compact_revision=revision)

    def compaction_failed(self, revision: Revision, reason: str) -> None:
        """An automatic compaction was refused; event loop."""
        self.logger.warn(Event.AUTO_COMPACTION_FAILED, revision=revision, error=reason)

    def checkpointed(self, seconds: float) -> None:
        """The checkpoint thread copied what it could."""
        self.metrics.disk.checkpoint_seconds.observe(seconds)

    def wal_pinned(self, seconds: float, wal_bytes: int) -> None:
        """The checkpoint thread cannot reset the WAL because of another program."""
        self.logger.warn(
            Event.WAL_PINNED, file="kv.db", seconds=round(seconds, 1), wal_bytes=wal_bytes
        )

    def log_wal_pinned(self, wal_bytes: int) -> None:
        """The log thread cannot reset its WAL because of another program."""
        self.logger.warn(Event.WAL_PINNED, file="raft.db", wal_bytes=wal_bytes)

    def log_wal_released(self) -> None:
        """The log thread can reset its WAL again."""
        self.logger.info(Event.WAL_RELEASED, file="raft.db")

    def wal_released(self, seconds: float) -> None:
        """The checkpoint thread can reset the WAL again."""
        self.logger.info(Event.WAL_RELEASED, file="kv.db", seconds=round(seconds, 1))

    def damaged(self, faults: Iterable[Fault]) -> None:
        """The scrub found damage; event loop."""
        for fault in faults:
            self.logger.error(Event.DAMAGE_FOUND, place=fault.place, reason=fault.reason)

    def leases_expired(self, leases: int) -> None:
        """Leases ran out together; event loop."""
        self.logger.info(Event.LEASES_EXPIRED, leases=leases)

    def alarm_changed(self, change: AlarmChanged) -> None:
        """An alarm was raised or cleared somewhere in the cluster; event loop."""
        alarm = rpc_pb2.AlarmType.DESCRIPTOR.values_by_number[change.alarm].name
        event = Event.ALARM_RAISED if change.raised else Event.ALARM_CLEARED
        self.logger.warn(event, alarm=alarm, member_id=f"{change.member:x}")
