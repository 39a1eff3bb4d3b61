"""etcdserverpb.Cluster: who the members are, and changing them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvshim.api.header import Headers
from kvshim.config import parse_url
from kvshim.errors import BadMemberURLs
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.rpc import Call, Method, Reply, Unary
from kvshim.server.members import MemberBook
from kvshim.server.reader import Reader


class ClusterService:
    """Handlers of Cluster. As in etcd, these headers carry no revision. Event loop."""

    def __init__(self, book: MemberBook, reader: Reader, headers: Headers) -> None:
        self._book = book
        self._reader = reader
        self._headers = headers

    def methods(self) -> list[Method]:
        """The service's table."""
        cluster = "/etcdserverpb.Cluster/"
        return [
            Unary(cluster + "MemberList", rpc_pb2.MemberListRequest, self.member_list),
            Unary(cluster + "MemberAdd", rpc_pb2.MemberAddRequest, self.member_add),
            Unary(cluster + "MemberRemove", rpc_pb2.MemberRemoveRequest, self.member_remove),
            Unary(cluster + "MemberUpdate", rpc_pb2.MemberUpdateRequest, self.member_update),
            Unary(cluster + "MemberPromote", rpc_pb2.MemberPromoteRequest, self.member_promote),
        ]

    async def member_list(self, request: rpc_pb2.MemberListRequest, _call: Call) -> Reply:
        """All members."""
        if request.linearizable:
            await self._reader.linearizable()
        await self._book.named()
        members = _shown_all(self._book.members)
        return rpc_pb2.MemberListResponse(header=self._headers.make(0), members=members)

    async def member_add(self, request: rpc_pb2.MemberAddRequest, _call: Call) -> Reply:
        """A member that will be started later, with or without a vote."""
        urls = _checked(request.peerURLs)
        member, members = await self._book.add(urls, learner=request.isLearner)
        return rpc_pb2.MemberAddResponse(
            header=self._headers.make(0), member=_shown(member), members=_shown_all(members)
        )

    async def member_remove(self, request: rpc_pb2.MemberRemoveRequest, _call: Call) -> Reply:
        """For good."""
        members = _shown_all(await self._book.remove(request.ID))
        return rpc_pb2.MemberRemoveResponse(header=self._headers.make(0), members=members)

    async def member_update(self, request: rpc_pb2.MemberUpdateRequest, _call: Call) -> Reply:
        """New peer addresses; etcd takes anything for one."""
        self._book.find(request.ID)
        members = _shown_all(await self._book.update(request.ID, _checked(request.peerURLs)))
        return rpc_pb2.MemberUpdateResponse(header=self._headers.make(0), members=members)

    async def member_promote(self, request: rpc_pb2.MemberPromoteRequest, _call: Call) -> Reply:
        """A learner gets a vote, once it has caught up."""
        members = _shown_all(await self._book.promote(request.ID))
        return rpc_pb2.MemberPromoteResponse(header=self._headers.make(0), members=members)


def _checked(urls: Sequence[str]) -> list[str]:
    if not urls:
        raise BadMemberURLs
    try:
        return [str(parse_url(url)) for url in urls]
    except ValueError:
        raise BadMemberURLs from None


def _shown_all(members: Iterable[Member]) -> list[rpc_pb2.Member]:
    return [_shown(member) for member in members]


def _shown(member: Member) -> rpc_pb2.Member:
    return rpc_pb2.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.learner,
    )
