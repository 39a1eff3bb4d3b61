"""The way of every request that changes something: quota, log, and a header to its answer."""

from __future__ import annotations

from typing import TypeAlias, TypeVar, cast

from kvshim.api.header import Headers
from kvshim.auth.state import NOBODY
from kvshim.errors import RequestError
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command, LoginResponse
from kvshim.rpc import Answer, Call, Later
from kvshim.server.authenticator import Authenticator
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
    | rpc_pb2.AuthEnableResponse
    | rpc_pb2.AuthDisableResponse
    | rpc_pb2.AuthUserAddResponse
    | rpc_pb2.AuthUserDeleteResponse
    | rpc_pb2.AuthUserChangePasswordResponse
    | rpc_pb2.AuthUserGrantRoleResponse
    | rpc_pb2.AuthUserRevokeRoleResponse
    | rpc_pb2.AuthRoleAddResponse
    | rpc_pb2.AuthRoleDeleteResponse
    | rpc_pb2.AuthRoleGrantPermissionResponse
    | rpc_pb2.AuthRoleRevokePermissionResponse
    | LoginResponse
)
_C = TypeVar("_C", bound=_Change)


class Changes:
    """Proposes the commands of clients. Event loop."""

    def __init__(
        self, proposer: Proposer, quota: Quota, headers: Headers, auth: Authenticator
    ) -> None:
        self._proposer = proposer
        self._quota = quota
        self._headers = headers
        self._auth = auth
        self._book = auth.book

    def new_id(self) -> int:
        """A number for something that a command makes, such as a lease."""
        return self._proposer.new_id()

    async def make(self, command: Command, response: type[_C], call: Call) -> _C:
        """Replicate and apply a client's command; its response, complete, or its `RequestError`.

        A command that stores nothing costs nothing and passes the quota.
        """
        await self._quota.check(command)
        if self._book.state.enabled:
            who = await self._auth.identify(call) or NOBODY
            command.user, command.auth_revision = who.user, who.revision
        answer = await self._proposer.propose(command, response)
        self._headers.fill(answer.header)
        return answer

    def begin(self, command: Command) -> Later | None:
        """`make` without a task, if there is nothing but the log to wait for, else None."""
        if self._book.state.enabled or not self._quota.has_room(command):
            return None
        later = self._proposer.begin(command)
        if later is not None:
            later.then(self._complete)
        return later

    def _complete(self, answer: Answer) -> None:
        if not isinstance(answer, RequestError):
            self._headers.fill(cast("_Change", answer).header)

    async def make_own(self, command: Command, response: type[_C]) -> _C:
        """The same for a command that needs no user, nor space."""
        answer = await self._proposer.propose(command, response)
        self._headers.fill(answer.header)
        return answer
