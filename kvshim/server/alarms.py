"""The standing alarms, as this member knows them. Event loop."""

from __future__ import annotations

from collections.abc import Iterable

from kvshim.apply.outcome import AlarmChanged, Effect
from kvshim.pb.etcd import rpc_pb2


class Alarms:
    """Follows the replicated alarms."""

    def __init__(self, standing: Iterable[tuple[int, int]], member_id: int) -> None:
        self._standing = set(standing)
        self._member_id = member_id

    def observe(self, effects: Iterable[Effect]) -> list[AlarmChanged]:
        """Follow what apply did; returns the changes, for the log."""
        changes = [effect for effect in effects if isinstance(effect, AlarmChanged)]
        for change in changes:
            named = (change.member, change.alarm)
            (self._standing.add if change.raised else self._standing.discard)(named)
        return changes

    @property
    def standing(self) -> list[tuple[int, int]]:
        """(member id, alarm type) of every alarm, by etcd's numbers."""
        return sorted(self._standing)

    @property
    def corrupt(self) -> set[int]:
        """The members named by the CORRUPT alarm; 0 stands for one that is not known."""
        return {member for member, alarm in self._standing if alarm == rpc_pb2.CORRUPT}

    @property
    def own_nospace(self) -> bool:
        """True while this member's NOSPACE alarm stands."""
        return (self._member_id, rpc_pb2.NOSPACE) in self._standing

    @property
    def own_corrupt(self) -> bool:
        """True while this member's CORRUPT alarm stands."""
        return (self._member_id, rpc_pb2.CORRUPT) in self._standing
