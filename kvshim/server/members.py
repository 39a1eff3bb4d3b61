"""The cluster's members as this node knows them, and changing them through the log. Event loop.

The checks are etcd's (server/etcdserver/server.go, api/membership/cluster.go); the last word has
apply, which refuses what no longer fits when its turn comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from kvshim.apply.outcome import Effect, MembersChanged
from kvshim.errors import (
    LearnerNotReady,
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    MemberRefused,
    NotEnoughStarted,
    PeerURLExists,
    RequestTimedOut,
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
    SpareRequest,
)
from kvshim.server.proposer import Proposer
from raft.types import ChangeKind, ConfChange, ConfChangeRefused, MemberId

LEARNERS_MAX_DEFAULT: Final = 1
"""etcd's `--max-learners`."""

CHANGE_SECONDS_MAX: Final = 5.0
"""How long a change waits for another one that is under way."""

NAMED_SECONDS_MAX: Final = 5.0
"""How long etcd, too, waits to say its name before it serves (`WaitClusterReadyTimeout`)."""

PROMOTE_SECONDS_MAX: Final = 0.5

RETRY_SECONDS: Final = 0.05


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
        self.own = self._find_own()
        """This member; None until it knows that it is one."""
        self._proposer = proposer
        self._strict = strict
        self._learners_max = learners_max
        self._waiting: list[asyncio.Future[None]] = []
        self.listeners: list[Callable[[Sequence[Member]], None]] = []

    @property
    def members(self) -> Sequence[Member]:
        """All, by id."""
        return self._members

    @property
    def holders(self) -> Sequence[Member]:
        """Those that the log is sent to; spares are not."""
        return [member for member in self._members if not member.spare]

    def refuses_clients(self) -> bool:
        """Is this member a learner as etcd has them? One that came by joining serves all calls."""
        own = self.own
        return own is not None and own.learner and not own.managed

    async def changed(self) -> None:
        """Wait until the members are others than now."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    async def named(self) -> None:
        """Wait until this member has said what it is called and where clients reach it.

        etcd serves nobody before that. Here it is waited for by those who ask who the members are,
        and not for ever: a new member without a leader has nobody to say it to.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(NAMED_SECONDS_MAX):
                while self.own is not None and not self.own.name:
                    await self.changed()

    def observe(self, effects: Iterable[Effect]) -> None:
        """Follow what apply did to the members."""
        for effect in effects:
            if isinstance(effect, MembersChanged):
                self.replace(effect.members)

    def replace(self, members: Iterable[Member]) -> None:
        """These are the members now."""
        self._members = tuple(members)
        self.own = self._find_own()
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
        member = Member(
            id=_new_id(peer_urls),
            name=name,
            peer_urls=sorted(peer_urls),
            learner=learner,
            managed=managed,
        )
        kind = ChangeKind.ADD_LEARNER if learner else ChangeKind.ADD_VOTER
        return member, await self._change(kind, member, self._check_add)

    async def remove(self, member_id: int) -> Sequence[Member]:
        """Remove a member, for good: its id is never used again."""
        if self.find(member_id).spare:
            command = Command(spare=SpareRequest(remove=member_id))
            return (await self._proposer.propose(command, MembersResponse)).members
        return await self._change(ChangeKind.REMOVE, Member(id=member_id), self._check_remove)

    async def promote(self, member_id: int) -> Sequence[Member]:
        """Give a learner a vote."""
        return await self._change(ChangeKind.PROMOTE, Member(id=member_id), self._check_promote)

    async def demote(self, member_id: int) -> Sequence[Member]:
        """Take a member's vote; it goes on as a learner."""
        return await self._change(ChangeKind.DEMOTE, Member(id=member_id), self._check_demote)

    async def enlist(self, member_id: int) -> Sequence[Member]:
        """Send a spare the log: it becomes a learner."""
        member = self.find(member_id)
        return await self._change(ChangeKind.ADD_LEARNER, member, self._check_enlist)

    async def spare(self, member_id: int) -> Sequence[Member]:
        """Send a learner nothing any more; it stays a member."""
        asked = Member(id=member_id, spare=True)
        return await self._change(ChangeKind.REMOVE, asked, self._check_spare)

    async def update(self, member_id: int, peer_urls: Sequence[str]) -> Sequence[Member]:
        """A member has moved."""
        self.find(member_id)
        for other in self._members:
            if other.id != member_id and set(other.peer_urls) & set(peer_urls):
                raise PeerURLExists
        request = MemberUpdateRequest(id=member_id, peer_urls=sorted(peer_urls))
        response = await self._proposer.propose(Command(member_update=request), MembersResponse)
        return response.members

    async def publish(self, request: MemberAttributesRequest) -> None:
        """Say what a member is called and where clients reach it, if the others do not know."""
        member = next((each for each in self._members if each.id == request.id), None)
        if member is None or not _differs(member, request):
            return
        command = Command(member_attributes=request)
        await self._proposer.propose(command, MemberAttributesResponse)

    def _find_own(self) -> Member | None:
        return next((member for member in self._members if member.id == self.own_id), None)

    def find(self, member_id: int) -> Member:
        """The member; raises `MemberNotFound`."""
        for member in self._members:
            if member.id == member_id:
                return member
        raise MemberNotFound

    def _voters(self) -> list[Member]:
        return [member for member in self._members if not member.learner]

    def _check_add(self, member: Member) -> None:
        taken = {url for other in self._members for url in other.peer_urls}
        if taken.intersection(member.peer_urls):
            raise PeerURLExists
        if any(other.id == member.id for other in self._members):
            raise MemberExists
        if member.learner and not member.managed:
            learners = sum(other.learner and not other.managed for other in self._members)
            if learners >= self._learners_max:
                raise TooManyLearners
        if not member.learner and self._strict:
            voters = self._voters()
            if len(voters) > 1 or _started(voters) < 1:  # A cluster of one may always grow.
                _refuse_too_few(_started(voters), len(voters) + 1)

    def _check_remove(self, asked: Member) -> None:
        member = self.find(asked.id)
        if self._strict and not member.learner:
            others = [other for other in self._voters() if other.id != asked.id]
            _refuse_too_few(_started(others), len(others))

    def _check_promote(self, asked: Member) -> None:
        if not self.find(asked.id).learner:
            raise MemberNotLearner
        if self._strict:  # It counts as started: the leader has heard that it caught up.
            _refuse_too_few(_started(self._voters()) + 1, len(self._voters()) + 1)

    def _check_demote(self, asked: Member) -> None:
        if self.find(asked.id).learner:
            raise MemberRefused(f"member {asked.id:x} has no vote")

    def _check_enlist(self, asked: Member) -> None:
        if not self.find(asked.id).spare:
            raise MemberRefused(f"member {asked.id:x} is no spare")

    def _check_spare(self, asked: Member) -> None:
        member = self.find(asked.id)
        if not member.learner or member.spare:
            raise MemberRefused(f"member {asked.id:x} is no standby")

    async def _change(
        self, kind: ChangeKind, member: Member, check: Callable[[Member], None]
    ) -> Sequence[Member]:
        """Change one member, after any change that is still under way.

        What the log refuses was never proposed, so it is safe to check and offer it again. A
        learner that lags is refused in the same way, hence the shorter patience with those.
        """

        def change(command_id: int) -> ConfChange:
            context = MemberChange(id=command_id, member=member).SerializeToString()
            return ConfChange(kind, MemberId(member.id), context)

        promotes = kind is ChangeKind.PROMOTE
        loop = asyncio.get_running_loop()
        until = loop.time() + (PROMOTE_SECONDS_MAX if promotes else CHANGE_SECONDS_MAX)
        while True:
            check(member)
            try:
                response = await self._proposer.propose_change(change, MembersResponse)
            except ConfChangeRefused:
                if loop.time() >= until:
                    raise (LearnerNotReady if promotes else RequestTimedOut) from None
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return response.members


def _differs(member: Member, wanted: MemberAttributesRequest) -> bool:
    return (
        member.name != wanted.name
        or list(member.client_urls) != list(wanted.client_urls)
        or wanted.failure_domain not in ("", member.failure_domain)
    )


def _started(members: Iterable[Member]) -> int:
    """How many have ever run: a member tells its name when it starts."""
    return sum(bool(member.name) for member in members)


def _refuse_too_few(started: int, voters: int) -> None:
    if started < voters // 2 + 1:
        raise NotEnoughStarted


def _new_id(peer_urls: Sequence[str]) -> int:
    """Differs even for the same addresses: the time is part of it, as in etcd.

    etcd counts whole seconds. A member that is removed and added again within one would then get
    the id it had, which must never come back.
    """
    text = "".join(sorted(peer_urls)) + str(time.time_ns())
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[:8], "big")
