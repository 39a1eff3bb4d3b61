"""Which member of a cluster formed by joining changes its role next. Pure.

A voter counts in majorities, a standby holds the data, a spare neither. Only members that came by
`kvshim join` move. One step is one committed change, after which all is looked at anew; each rule
brings the cluster nearer to where none applies:

1. Voters are odd in number, so an even cluster is never made: two would survive no more than one.
2. A voter that stays lost gives its vote to a standby that has caught up.
3. There are as many voters as wanted, or the next smaller odd number.
4. Voters are spread over failure domains, if a standby in a better place has the data already.
5. As many members as wanted hold the data beside the voters; a lost one does not count.
6. Those are spread over failure domains too: a copy of the store is worth a better place.

Members that named no domain share one. A swap happens only between domains whose numbers differ
by two or more, so that it makes them more even and never happens back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum

from kvshim.config.role_numbers import RoleNumbers
from kvshim.pb.kvshim.member_pb2 import Member


class MemberRole(Enum):
    """What a member does for the cluster; the values are what `kvshim status` shows."""

    VOTER = "voter"
    STANDBY = "standby"
    SPARE = "spare"


@dataclass(frozen=True, slots=True)
class Step:
    """This member gets this role."""

    member_id: int
    role: MemberRole


def role_of(member: Member) -> MemberRole:
    """As the replicated list says it."""
    if member.spare:
        return MemberRole.SPARE
    return MemberRole.STANDBY if member.learner else MemberRole.VOTER


def next_step(
    members: Sequence[Member],
    leader_id: int,
    *,
    wanted: RoleNumbers,
    ready: AbstractSet[int],
    lost: AbstractSet[int],
    present: AbstractSet[int],
) -> Step | None:
    """None when nothing can be better, or need be.

    `ready` are learners that have caught up and are reached; `lost` members that stay away;
    `present` those that are reached now.
    """
    look = _Look(members, leader_id, wanted, ready, lost, present)
    return look.voters_step() or look.spread_voters() or look.standbys_step()


def needs_standby(members: Sequence[Member], wanted: RoleNumbers) -> bool:
    """Is one that joins now to hold the data?"""
    holders = sum(not member.spare for member in members)
    return holders < wanted.voters + wanted.standbys


class _Look:
    """The cluster at one moment."""

    def __init__(  # noqa: PLR0917
        self,
        members: Sequence[Member],
        leader_id: int,
        wanted: RoleNumbers,
        ready: AbstractSet[int],
        lost: AbstractSet[int],
        present: AbstractSet[int],
    ) -> None:
        self._wanted = wanted
        self._lost = lost
        self._voters = [m for m in members if role_of(m) is MemberRole.VOTER]
        self._movable = [m for m in self._voters if m.managed and m.id != leader_id]
        self._standbys = [m for m in members if role_of(m) is MemberRole.STANDBY and m.managed]
        self._alive = [m for m in self._standbys if m.id not in lost]
        self._ready = [m for m in self._standbys if m.id in ready]
        spares = (m for m in members if role_of(m) is MemberRole.SPARE)
        self._spares = [m for m in spares if m.id in present and m.id not in lost]
        self._voting = self._domains(self._voters)
        self._holding = self._domains([*self._voters, *self._standbys])

    def voters_step(self) -> Step | None:
        """Rules 1 to 3."""
        voters, wanted = len(self._voters), self._wanted.voters
        gone = [m for m in self._movable if m.id in self._lost]
        if voters % 2 == 0:
            if self._ready and voters < wanted:
                return self._promote()
            if not gone and self._alive and voters < wanted:
                return None  # a standby is about to catch up, or will be lost
            return self._demote(gone or self._movable)
        if gone and self._ready:
            return self._demote(gone)
        if voters + 2 <= wanted and len(self._ready) >= 2:
            return self._promote()
        if voters > wanted and len(self._movable) >= 2:
            return self._demote(gone or self._movable)
        return None

    def spread_voters(self) -> Step | None:
        """Rule 4. The vote is given first and taken in the next step, by rule 1."""
        if len(self._voters) % 2 == 0 or not self._ready or not self._movable:
            return None
        best, worst = self._loneliest(self._ready, self._voting), self._crowded(self._movable)
        if self._voting[worst.failure_domain] - self._voting[best.failure_domain] >= 2:
            return Step(best.id, MemberRole.VOTER)
        return None

    def standbys_step(self) -> Step | None:
        """Rules 5 and 6. A copy comes before another one goes."""
        alive = self._alive
        gone = [m for m in self._standbys if m.id in self._lost]
        voting = sum(m.id not in self._lost for m in self._voters)
        need = self._wanted.standbys + max(0, self._wanted.voters - voting)
        if len(alive) < need and self._spares:
            return Step(self._loneliest(self._spares, self._holding).id, MemberRole.STANDBY)
        if gone and len(alive) >= need:
            return Step(gone[0].id, MemberRole.SPARE)
        if len(self._ready) > need:
            return Step(self._crowded(self._ready, self._holding).id, MemberRole.SPARE)
        return self._spread_standbys(alive) if len(alive) <= need else None

    def _spread_standbys(self, alive: Sequence[Member]) -> Step | None:
        if not alive or not self._spares or len(self._ready) < len(alive):
            return None
        best = self._loneliest(self._spares, self._holding)
        worst = self._crowded(alive, self._holding)
        if self._holding[worst.failure_domain] - self._holding[best.failure_domain] >= 2:
            return Step(best.id, MemberRole.STANDBY)
        return None

    def _promote(self) -> Step:
        return Step(self._loneliest(self._ready, self._voting).id, MemberRole.VOTER)

    def _demote(self, candidates: Sequence[Member]) -> Step | None:
        if not candidates:
            return None
        return Step(self._crowded(candidates).id, MemberRole.STANDBY)

    def _domains(self, members: Iterable[Member]) -> Counter[str]:
        return Counter(m.failure_domain for m in members if m.id not in self._lost)

    def _loneliest(self, candidates: Sequence[Member], domains: Counter[str]) -> Member:
        return min(candidates, key=lambda m: (domains[m.failure_domain], m.id))

    def _crowded(self, candidates: Sequence[Member], domains: Counter[str] | None = None) -> Member:
        counted = self._voting if domains is None else domains
        return max(candidates, key=lambda m: (counted[m.failure_domain], -m.id))
