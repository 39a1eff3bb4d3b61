"""The way of every request that changes something: quota, log, and a header to its answer."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from kvshim.api.header import Headers
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.server.proposer import Proposer
from kvshim.server.quota import Quota

_Change: TypeAlias = (
    rpc_pb2.PutResponse
    | rpc_pb2.DeleteRangeResponse
    | rpc_pb2.TxnResponse
    | rpc_pb2.CompactionResponse
    | rpc_pb2.LeaseGrantResponse
    | rpc_pb2.LeaseRevokeResponse
    | rpc_pb2.AlarmResponse
)
_C = TypeVar("_C", bound=_Change)


class Changes:
    """Proposes the commands of clients. Event loop."""

    def __init__(self, proposer: Proposer, quota: Quota, headers: Headers) -> None:
        self._proposer = proposer
        self._quota = quota
        self._headers = headers

    def new_id(self) -> int:
        """A number for something that a command makes, such as a lease."""
        return self._proposer.new_id()

    async def make(self, command: Command, response: type[_C]) -> _C:
        """Replicate and apply a command; its response, complete, or its `RequestError`.

        A command that stores nothing costs nothing and passes the quota.
        """
        await self._quota.check(command)
        answer = await self._proposer.propose(command, response)
        self._headers.fill(answer.header)
        return answer
