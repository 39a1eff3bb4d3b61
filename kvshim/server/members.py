"""The cluster's members as this node knows them, and changing them through the log. Event loop.

The checks are etcd's (server/etcdserver/server.go, api/membership/cluster.go); the last word has
apply, which refuses what no longer fits when its turn comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from kvshim.apply.outcome import Effect, MembersChanged
from kvshim.errors import (
    LearnerNotReady,
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    NotEnoughStarted,
    PeerURLExists,
    TooManyLearners,
)
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.pb.kvshim.member_pb2 import (
    Member,
    MemberAttributesRequest,
    MemberAttributesResponse,
    MemberChange,
    MembersResponse,
    MemberUpdateRequest,
)
from kvshim.server.proposer import Proposer
from raft.types import ChangeKind, ConfChange, ConfChangeRefused, MemberId

LEARNERS_MAX_DEFAULT: Final = 1
"""etcd's `--max-learners`."""


class MemberBook:
    """Who is in the cluster. `listeners` are called with the members after each change."""

    def __init__(
        self,
        own_id: int,
        members: Iterable[Member],
        proposer: Proposer,
        *,
        strict: bool = True,
        learners_max: int = LEARNERS_MAX_DEFAULT,
    ) -> None:
        self.own_id = own_id
        self._members = tuple(members)
        self._proposer = proposer
        self._strict = strict
        self._learners_max = learners_max
        self._waiting: list[asyncio.Future[None]] = []
        self.listeners: list[Callable[[Sequence[Member]], None]] = []

    @property
    def members(self) -> Sequence[Member]:
        """All, by id."""
        return self._members

    def is_learner(self) -> bool:
        """Is this member one without a vote?"""
        return any(member.learner for member in self._members if member.id == self.own_id)

    async def changed(self) -> None:
        """Wait until the members are others than now."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def observe(self, effects: Iterable[Effect]) -> None:
        """Follow what apply did to the members."""
        for effect in effects:
            if isinstance(effect, MembersChanged):
                self.replace(effect.members)

    def replace(self, members: Iterable[Member]) -> None:
        """These are the members now."""
        self._members = tuple(members)
        for listener in self.listeners:
            listener(self._members)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def add(
        self, peer_urls: Sequence[str], *, learner: bool, managed: bool = False, name: str = ""
    ) -> tuple[Member, Sequence[Member]]:
        """Add a member that will come; returns it and all members."""
        taken = {url for member in self._members for url in member.peer_urls}
        if taken & set(peer_urls):
            raise PeerURLExists
        member = Member(
            id=_new_id(peer_urls),
            name=name,
            peer_urls=sorted(peer_urls),
            learner=learner,
            managed=managed,
        )
        if any(other.id == member.id for other in self._members):
            raise MemberExists
        if learner and not managed:
            learners = sum(other.learner and not other.managed for other in self._members)
            if learners >= self._learners_max:
                raise TooManyLearners
        if not learner and self._strict:
            self._refuse_unstarted(joining=1)
        kind = ChangeKind.ADD_LEARNER if learner else ChangeKind.ADD_VOTER
        members = await self._change(kind, member.id, member)
        return member, members

    async def remove(self, member_id: int) -> Sequence[Member]:
        """Remove a member, for good: its id is never used again."""
        member = self._find(member_id)
        if self._strict and not member.learner and member.name:
            self._refuse_unstarted(leaving=1)
        return await self._change(ChangeKind.REMOVE, member_id, Member(id=member_id))

    async def promote(self, member_id: int) -> Sequence[Member]:
        """Give a learner a vote."""
        if not self._find(member_id).learner:
            raise MemberNotLearner
        return await self._change(ChangeKind.PROMOTE, member_id, Member(id=member_id))

    async def update(self, member_id: int, peer_urls: Sequence[str]) -> Sequence[Member]:
        """A member has moved."""
        self._find(member_id)
        for other in self._members:
            if other.id != member_id and set(other.peer_urls) & set(peer_urls):
                raise PeerURLExists
        request = MemberUpdateRequest(id=member_id, peer_urls=sorted(peer_urls))
        response = await self._proposer.propose(Command(member_update=request), MembersResponse)
        return response.members

    async def publish(self, name: str, client_urls: Sequence[str]) -> None:
        """Say what this member is called and where clients reach it, if the others do not know."""
        own = next((member for member in self._members if member.id == self.own_id), None)
        if own is None or (own.name == name and list(own.client_urls) == list(client_urls)):
            return
        request = MemberAttributesRequest(id=self.own_id, name=name, client_urls=client_urls)
        command = Command(member_attributes=request)
        await self._proposer.propose(command, MemberAttributesResponse)

    def _find(self, member_id: int) -> Member:
        for member in self._members:
            if member.id == member_id:
                return member
        raise MemberNotFound

    def _refuse_unstarted(self, joining: int = 0, leaving: int = 0) -> None:
        """etcd's strict reconfiguration check: enough voters must have started for the quorum.

        A cluster of one may always grow.
        """
        voters = [member for member in self._members if not member.learner]
        started = sum(bool(member.name) for member in voters)
        if joining and len(voters) == 1 and started == 1:
            return
        after = len(voters) + joining - leaving
        if started - leaving < after // 2 + 1:
            raise NotEnoughStarted

    async def _change(self, kind: ChangeKind, member_id: int, member: Member) -> Sequence[Member]:
        def change(command_id: int) -> ConfChange:
            context = MemberChange(id=command_id, member=member).SerializeToString()
            return ConfChange(kind, MemberId(member_id), context)

        try:
            response = await self._proposer.propose_change(change, MembersResponse)
        except ConfChangeRefused:
            if kind is ChangeKind.PROMOTE:
                raise LearnerNotReady from None
            raise NotEnoughStarted from None
        return response.members


def _new_id(peer_urls: Sequence[str]) -> int:
    """Differs even for the same addresses: the time is part of it, as in etcd."""
    text = "".join(sorted(peer_urls)) + str(int(time.time()))
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[:8], "big")
