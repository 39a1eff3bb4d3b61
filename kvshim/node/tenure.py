"""A change of leader, told to the operator. Event loop."""

from __future__ import annotations

from kvshim.logs import Event, Logger
from kvshim.server.leadership import Leadership


def announce(leadership: Leadership, logger: Logger) -> None:
    """Log each leader, and when there is none."""
    had_leader = told_lost = False

    def changed() -> None:
        nonlocal had_leader, told_lost
        leader, term = leadership.leader_id, leadership.term
        if not leader:
            if had_leader and not told_lost:
                logger.warn(Event.QUORUM_LOST, term=term)
                told_lost = True
            return
        if told_lost:
            logger.info(Event.QUORUM_BACK, term=term)
        had_leader, told_lost = True, False
        logger.info(Event.LEADER_CHANGED, leader=f"{leader:x}", term=term)

    leadership.on_change(changed)
