"""etcdserverpb.Cluster: who the members are. Changing them comes with replication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvshim.api.header import Headers
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Call, Method, Reply, Unary
from kvshim.server.reader import Reader


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member as `MemberList` shows it; URLs as the operator gave them."""

    member_id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


class ClusterService:
    """Handlers of Cluster that a fixed membership can answer. Event loop."""

    def __init__(self, members: Sequence[MemberInfo], reader: Reader, headers: Headers) -> None:
        self._members = [
            rpc_pb2.Member(
                ID=member.member_id,
                name=member.name,
                peerURLs=member.peer_urls,
                clientURLs=member.client_urls,
            )
            for member in members
        ]
        self._reader = reader
        self._headers = headers

    def methods(self) -> list[Method]:
        """The service's table."""
        path = "/etcdserverpb.Cluster/MemberList"
        return [Unary(path, rpc_pb2.MemberListRequest, self.member_list)]

    async def member_list(self, request: rpc_pb2.MemberListRequest, _call: Call) -> Reply:
        """All members. As in etcd, this header carries no revision."""
        if request.linearizable:
            await self._reader.linearizable()
        header = self._headers.make(revision=0)
        return rpc_pb2.MemberListResponse(header=header, members=self._members)
