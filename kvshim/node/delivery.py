"""From the apply thread to the event loop: what an applied batch means for everyone waiting.

Order matters: watchers learn of a batch's events before its writers get their answers, and
waiting reads go last, when everything that they may observe has been told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kvshim.apply.outcome import AlarmChanged, BatchOutcome, Outcome, Restored
from kvshim.node.reports import Reports
from kvshim.server.alarms import Alarms
from kvshim.server.lessor import Lessor
from kvshim.server.members import MemberBook
from kvshim.server.physical import PhysicalCompaction
from kvshim.server.proposer import Proposer
from kvshim.server.quota import Quota
from kvshim.server.reader import Reader
from kvshim.server.settling import Settling
from kvshim.server.versions import ClusterVersion
from kvshim.types import Revision
from kvshim.watch.hub import Hub


@dataclass(slots=True)
class Delivery:
    """Receives outcomes on the loop; `post` is what the apply thread calls."""

    loop: asyncio.AbstractEventLoop
    hub: Hub
    lessor: Lessor
    members: MemberBook
    version: ClusterVersion
    alarms: Alarms
    quota: Quota
    proposer: Proposer
    reader: Reader
    physical: PhysicalCompaction
    settling: Settling
    reports: Reports
    on_fatal: Callable[[BaseException], None]

    def post(self, outcome: Outcome) -> None:
        """Hand a batch, or the news of a snapshot, over; any thread."""
        self.loop.call_soon_threadsafe(self.take, outcome)

    def post_compacted(self, revision: Revision) -> None:
        """The rows of a compaction are gone; apply thread."""
        self.reports.compacted(revision)
        self.loop.call_soon_threadsafe(self.physical.observe, revision)

    def take(self, outcome: Outcome) -> None:
        """Tell everyone, on the loop. What cannot be told stops the node."""
        try:
            if isinstance(outcome, Restored):
                self._restore(outcome)
            else:
                self._tell(outcome)
        except Exception as error:
            self.on_fatal(error)

    def _tell(self, outcome: BatchOutcome) -> None:
        self.hub.publish(outcome.revision, outcome.events)
        if outcome.effects:
            self.lessor.observe(outcome.effects)
            self.members.observe(outcome.effects)
            self.version.observe(outcome.effects)
            for change in self.alarms.observe(outcome.effects):
                self.reports.alarm_changed(change)
            self.quota.observe(self.alarms.own_nospace)
        self.proposer.settle(outcome.answers)
        self.reader.advance(outcome.applied_index)
        self.settling.observe()

    def _restore(self, restored: Restored) -> None:
        """Everyone goes on from a snapshot. Nobody is answered: what became of a proposal that is
        part of it is not known here."""
        self.hub.restored(restored.revision)
        self.lessor.restore(restored.leases)
        self.members.replace(restored.members)
        self.version.replace(restored.version)
        before, after = set(self.alarms.standing), set(restored.alarms)
        changes = [AlarmChanged(*alarm, raised=alarm in after) for alarm in before ^ after]
        for change in self.alarms.observe(changes):
            self.reports.alarm_changed(change)
        self.quota.observe(self.alarms.own_nospace)
        self.physical.observe(restored.compacted)
        self.reader.advance(restored.applied_index)
