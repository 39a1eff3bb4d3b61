"""What the health pages ask of a node."""

from __future__ import annotations

from kvshim.errors import NoLeader
from kvshim.node.parts import Parts

PROBE_KEY = b"health"
"""A key that need not exist: reading it proves that reads work."""


class NodeHealth:
    """Implements `kvshim.http.health.HealthSource`. Event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def linearizable_read(self) -> None:
        """Read at the log's read index; raises what a client would get.

        For a member that holds no data, whoever serves its clients has done so.
        """
        follower = self._parts.duties.follower
        if follower.forwards:
            if not follower.leader_id:
                raise NoLeader
            return
        await self._parts.delivery.reader.confirmed()
        await self.serializable_read()

    async def serializable_read(self) -> None:
        """Read what this member has."""
        self._parts.delivery.reader.read_here(lambda view: view.get(PROBE_KEY))

    def alarms(self) -> list[int]:
        """Types of the standing alarms."""
        return [alarm for _, alarm in self._parts.delivery.alarms.standing]

    def has_leader(self) -> bool:
        """True while a leader is known."""
        return self._parts.peers.leader_id() != 0

    def is_learner(self) -> bool:
        """Is this a member that refuses clients, as etcd's learners do?"""
        return self._parts.delivery.members.refuses_clients()
