"""Trust, wired to the peers' transport and the replicated log. Event loop.

The seams between admission, which knows neither sockets nor the log, and those who do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from google.protobuf.message import Message

from kvshim.apply.tokens import find_token
from kvshim.config.role_numbers import ROLE_NUMBERS_DEFAULT, RoleNumbers
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.pb.kvshim.member_pb2 import Member, MemberChange, MembersResponse, SpareRequest
from kvshim.pb.kvshim.token_pb2 import Token
from kvshim.pki.certificates import authorize
from kvshim.server.admission import Admission, PeerHandler, Refused
from kvshim.server.members import MemberBook
from kvshim.server.proposer import Proposer
from kvshim.server.reader import Reader
from kvshim.server.role_steps import needs_standby
from raft.transport.options import Authorize, Hello, PeerCertificate
from raft.types import ChangeKind, ConfChange, ConfChangeRefused, MemberId

ADD_TIMEOUT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.2

_M = TypeVar("_M", bound=Message)


def authorizer(is_removed: Callable[[int], bool]) -> Authorize:
    """For `TransportOptions.authorize`: the certificate is that member's, and it was not removed.

    A member that is not known here is let in: it may have been added just now.
    """

    def check(certificate: PeerCertificate | None, hello: Hello) -> str | None:
        der = certificate.der if certificate else None
        reason = authorize(der, hello.cluster_id, hello.member_id)
        if reason is None and is_removed(hello.member_id):
            return f"member {hello.member_id:x} was removed from the cluster"
        return reason

    return check


class Calls(Protocol):
    """`PeerTransport`, as far as it is needed here."""

    def handle(
        self, method: str, handler: PeerHandler, *, open_to_strangers: bool = False
    ) -> None: ...


def serve(admission: Admission, transport: Calls) -> None:
    """Answer joiners and members from now on."""
    for method, handler in admission.open_handlers().items():
        transport.handle(method, handler, open_to_strangers=True)
    for method, handler in admission.member_handlers().items():
        transport.handle(method, handler)


class LoggedCluster:
    """`admission.Cluster` on the member book and the log."""

    def __init__(
        self,
        cluster_id: int,
        book: MemberBook,
        proposer: Proposer,
        reader: Reader,
        *,
        numbers: Callable[[], RoleNumbers | None],
    ) -> None:
        """`numbers` are the voters and standbys that the cluster wants."""
        self.cluster_id = cluster_id
        self._numbers = numbers
        self.member_id = book.own_id
        self._book = book
        self._proposer = proposer
        self._reader = reader

    def members(self) -> Sequence[Member]:
        """All, as applied here."""
        return self._book.members

    async def add(self, member: Member) -> None:
        """Add a member under the id that admission chose, as a standby or a spare.

        Waits while another change goes on.
        """
        if not needs_standby(self._book.members, self._numbers() or ROLE_NUMBERS_DEFAULT):
            await self._proposer.propose(Command(spare=SpareRequest(add=member)), MembersResponse)
            return

        def change(command_id: int) -> ConfChange:
            context = MemberChange(id=command_id, member=member).SerializeToString()
            return ConfChange(ChangeKind.ADD_LEARNER, MemberId(member.id), context)

        loop = asyncio.get_running_loop()
        until = loop.time() + ADD_TIMEOUT_SECONDS
        while not any(known.id == member.id for known in self._book.members):
            try:
                await self._proposer.propose_change(change, MembersResponse)
            except ConfChangeRefused as refusal:  # by the log: never proposed, safe to try again
                if loop.time() > until:
                    raise Refused(str(refusal)) from None
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def remove(self, member_id: int) -> None:
        """Remove a member, for good."""
        await self._book.remove(member_id)

    async def token(self, token_id: bytes) -> Token | None:
        """A token from a state no older than this call."""
        await self._reader.confirmed()
        return self._reader.read_here(lambda view: find_token(view, token_id))

    async def propose(self, command: Command, response: type[_M]) -> _M:
        """Through the log."""
        return await self._proposer.propose(command, response)
