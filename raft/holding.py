"""Commands that no leader has taken yet, and forwards that a leader may still refuse.

A command is proposed again only when it is certain that nobody took it: there was no leader, or the
leader refused, or it never left (DESIGN 3). What went to a leader is forgotten after a while, and
then never comes back. Raft thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from raft.interface import MemberId, ProposalDropped, Term
from raft.member import Member

FORWARDS_REMEMBERED_MAX: Final = 256
"""Forwards that a leader may still refuse, kept to be proposed again."""


class _Held(NamedTuple):
    """Commands proposed as one; safe to propose until `deadline`, by the monotonic clock."""

    deadline: float
    commands: Sequence[bytes]


class Holding:
    """See the module. Bounded by what the node lets wait."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._waiting: deque[_Held] = deque()
        self._is_due = False
        self._followed = (MemberId(0), Term(0))
        # By sequence, with whom they were offered to, and in which term.
        self._forwards: OrderedDict[int, tuple[_Held, tuple[MemberId, Term]]] = OrderedDict()

    @property
    def waits(self) -> bool:
        """True when there is something that nobody took."""
        return bool(self._waiting)

    def propose(self, commands: Sequence[bytes], deadline: float) -> None:
        """Propose commands as one, or keep them until somebody leads."""
        self._propose(_Held(deadline, commands))

    def refused(self, sequence: int) -> bool:
        """A forward was not taken, or never left; True if it can be offered again at once.

        To the next leader it can; to the same one with the next tick: it takes nothing now, and
        what went back and forth meanwhile would only keep it from handing over.
        """
        forward = self._forwards.pop(sequence, None)
        if forward is None:
            return False
        held, offered_to = forward
        self._waiting.append(held)
        if offered_to == self._member.core.following:
            return False
        self._is_due = True
        return True

    def ticked(self, now: float) -> None:
        """Some time has passed: what waits may be offered, and old forwards are forgotten."""
        self._is_due = True
        while self._forwards and next(iter(self._forwards.values()))[0].deadline < now:
            self._forwards.popitem(last=False)

    def offer(self, now: float) -> None:
        """Propose what waits, if a tick or another leader has come since the last time."""
        following = self._member.core.following
        if following != self._followed:
            self._followed, self._is_due = following, True
        if not self._waiting or not self._is_due:
            return
        self._is_due = False
        waiting, self._waiting = self._waiting, deque()
        for held in waiting:
            if held.deadline > now:
                self._propose(held)

    def _propose(self, held: _Held) -> None:
        try:
            sequence = self._member.propose(held.commands)
        except ProposalDropped:
            self._waiting.append(held)
            return
        if sequence:
            self._forwards[sequence] = held, self._member.core.following
            while len(self._forwards) > FORWARDS_REMEMBERED_MAX:
                self._forwards.popitem(last=False)
