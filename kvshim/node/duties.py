"""The roles of a cluster formed by joining, wired: giving them, and living with one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kvshim.apply.members import members_of
from kvshim.apply.role_numbers import role_numbers_of
from kvshim.apply.versions import ROLES_VERSION
from kvshim.config import Config
from kvshim.config.role_numbers import ROLE_NUMBERS_DEFAULT, STANDBYS_MAX, RoleNumbers
from kvshim.errors import RequestError
from kvshim.logs import Event, Logger
from kvshim.mvcc.store import Store
from kvshim.node.peers import Peers
from kvshim.pb.kvshim.member_pb2 import Member, MemberAttributesRequest
from kvshim.server.following import Follower
from kvshim.server.joining import Joined, Peer
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.proposer import Proposer
from kvshim.server.roles import RoleNumbersBook, Roles
from kvshim.server.spares import METHOD, SpareDesk
from kvshim.server.versions import ClusterVersion

PUBLISH_RETRY_SECONDS = 1.0
"""After this member could not tell the others its name and addresses."""


LOOK_SECONDS = 60.0
"""After which it looks again: a newer version of the cluster may know more of a member."""


@dataclass(slots=True)
class Duties:
    """What a member does about roles, its own and others'."""

    roles: Roles
    follower: Follower
    numbers: RoleNumbersBook
    attributes: Callable[[], MemberAttributesRequest]
    publish: Callable[[MemberAttributesRequest], Awaitable[None]]
    held: Callable[[], RoleNumbers | None]
    """What the cluster wants, by this member's store."""
    wanted: Callable[[], RoleNumbers]
    """The same, as far as every member's program knows spares."""
    _wanted: RoleNumbers | None
    _may_begin: bool
    _book: MemberBook
    _logger: Logger
    _numbers_said: bool = False

    async def introduce(self) -> None:
        """Tell the others about this member, if they know it otherwise; tried until it is said.

        A spare tells it with its questions.
        """
        while True:
            try:
                if self.follower.forwards:
                    return
                await self.publish(self.attributes())
                if not self._numbers_said:
                    await self._say_numbers()
                    self._numbers_said = True
            except RequestError:
                await asyncio.sleep(PUBLISH_RETRY_SECONDS)
            else:
                return

    async def stay_known(self) -> None:
        """Introduce this member whenever the others may know it otherwise; until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._book.changed()
            await self.introduce()

    async def _say_numbers(self) -> None:
        """The first node's flags are the cluster's; others' that differ change nothing."""
        if self._wanted is None:
            return
        if self._may_begin:
            held = await self.numbers.begin(self._wanted)
        else:
            held = self.held() or ROLE_NUMBERS_DEFAULT
        if held != self._wanted:
            self._logger.warn(Event.ROLE_NUMBERS_DIFFER, voters=held.voters, standbys=held.standbys)


def give_duties(
    config: Config,
    directory: Path,
    *,
    store: Store,
    peers: Peers,
    book: MemberBook,
    leadership: Leadership,
    proposer: Proposer,
    logger: Logger,
    version: ClusterVersion,
) -> Duties:
    """Wire it; nothing runs yet."""
    now = asyncio.get_running_loop().time
    joined = Joined.load(directory)

    def held() -> RoleNumbers | None:
        with store.read_short() as view:
            return role_numbers_of(view)

    def wanted() -> RoleNumbers:
        """While some program knows no spares, all hold the data."""
        numbers = held() or ROLE_NUMBERS_DEFAULT
        if version.current >= ROLES_VERSION:
            return numbers
        return RoleNumbers(numbers.voters, STANDBYS_MAX)

    def has_data() -> bool:
        with store.read_short() as view:
            return any(m.id == book.own_id and not m.spare for m in members_of(view))

    def attributes() -> MemberAttributesRequest:
        name = joined.name if joined and config.name == "default" else config.name
        return MemberAttributesRequest(
            id=book.own_id,
            name=name,
            client_urls=[str(url) for url in config.advertise_client_urls],
            failure_domain=config.failure_domain,
        )

    async def publish(request: MemberAttributesRequest) -> None:
        """A spare's own store does not say what the cluster's version is: this one's does."""
        if version.current < ROLES_VERSION:
            request.failure_domain = ""
        await book.publish(request)

    async def remember(members: Sequence[Member]) -> None:
        if joined is not None:
            kept = replace(joined, members=tuple(map(Peer.of, members)))
            await asyncio.to_thread(kept.save, directory)

    desk = SpareDesk(store, book, leadership, publish=publish, now=now)
    follower = Follower(
        book,
        leadership,
        call=peers.call,
        attributes=attributes,
        applied=lambda: store.applied_index,
        has_data=has_data,
        remember=remember,
        now=now,
        logger=logger,
    )
    peers.know_spares(desk, lambda: follower.leader_id)
    peers.transport.handle(METHOD, desk.handle)
    return Duties(
        roles=Roles(
            leadership,
            book,
            ready=peers.caught_up,
            reached=peers.reached,
            numbers=wanted,
            lost_seconds=config.replace_after_s,
            now=now,
            logger=logger,
        ),
        follower=follower,
        numbers=RoleNumbersBook(proposer, held),
        attributes=attributes,
        _wanted=config.role_numbers if config.role_numbers_given else None,
        _may_begin=joined is None,
        _book=book,
        publish=publish,
        held=held,
        wanted=wanted,
        _logger=logger,
    )
