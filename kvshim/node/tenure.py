"""What a change of leader sets off: log lines, and who counts the time of leases. Event loop."""

from __future__ import annotations

import asyncio

from kvshim.errors import RequestError
from kvshim.logs import Event, Logger
from kvshim.server.leadership import Leadership
from kvshim.server.lessor import Lessor
from kvshim.server.reader import Reader


class Tenure:
    """Follows `Leadership`. A member counts leases from when its own term is confirmed."""

    def __init__(
        self, leadership: Leadership, lessor: Lessor, reader: Reader, logger: Logger
    ) -> None:
        self._leadership = leadership
        self._lessor = lessor
        self._reader = reader
        self._logger = logger
        self._had_leader = False
        self._told_lost = False
        self._promotion: asyncio.Task[None] | None = None
        leadership.on_change(self._changed)

    def stop(self) -> None:
        """The node stops: nothing is counted here any longer."""
        if self._promotion is not None:
            self._promotion.cancel()

    def _changed(self) -> None:
        self._tell()
        self.stop()
        if self._leadership.leads:
            self._promotion = asyncio.create_task(self._promote(self._leadership.term))
        elif self._lessor.primary:
            self._lessor.demote()

    async def _promote(self, term: int) -> None:
        """Every renewal of the leader before is applied once a read of this term is confirmed."""
        while self._leadership.leads and self._leadership.term == term:
            try:
                await self._reader.confirmed()
            except RequestError:
                continue
            self._lessor.promote(self._leadership.election_seconds)
            return

    def _tell(self) -> None:
        leader, term = self._leadership.leader_id, self._leadership.term
        if not leader:
            if self._had_leader:
                self._logger.warn(Event.QUORUM_LOST, term=term)
                self._told_lost = True
            return
        self._had_leader = True
        if self._told_lost:
            self._told_lost = False
            self._logger.info(Event.QUORUM_BACK, term=term)
        self._logger.info(Event.LEADER_CHANGED, leader=f"{leader:x}", term=term)
