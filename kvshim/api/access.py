"""Who may call what, while authentication is on; while it is off, one look at a flag.

Here stand the checks that etcd makes before a request does anything: of administrators' calls, and
of all that is answered without the log. What the log carries is checked in apply, by the user and
revision that `Changes` writes on it. The rules are those of etcd's `server/etcdserver/v3_server.go`
and `api/v3rpc`. Event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from google.protobuf.message import Message

from kvshim.api import validate
from kvshim.apply.access import check_lease_reads, check_lease_writes, check_txn
from kvshim.apply.txn import is_serializable
from kvshim.auth.state import NOBODY, AuthState, Identity
from kvshim.errors import (
    AuthOldRevision,
    InvalidAuthToken,
    PermissionDenied,
    RequestError,
    UserEmpty,
)
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import (
    Call,
    Later,
    Method,
    QuickHandler,
    Reply,
    ServerStream,
    StreamHandler,
    Unary,
    UnaryHandler,
)
from kvshim.server.authenticator import Authenticator
from kvshim.server.reader import Reader
from kvshim.types import KeyRange, LeaseID

ADMINS_ONLY = (
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Cluster/MemberAdd",
    "/etcdserverpb.Cluster/MemberRemove",
    "/etcdserverpb.Cluster/MemberUpdate",
    "/etcdserverpb.Cluster/MemberPromote",
    "/etcdserverpb.Maintenance/Defragment",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.Maintenance/MoveLeader",
    "/etcdserverpb.Maintenance/Downgrade",
)
USERS_ONLY = (
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
)

_UnaryRule: TypeAlias = Callable[[UnaryHandler, Any, Call], Awaitable[Reply]]
_StreamRule: TypeAlias = Callable[[StreamHandler, Any, Call], AsyncIterator[Message | bytes]]

_WATCH_REASONS: Mapping[type[RequestError], str] = {
    InvalidAuthToken: "Unauthenticated",
    AuthOldRevision: "InvalidArgument",
    UserEmpty: "InvalidArgument",
}


class Access:
    """Puts the checks around the methods that need one."""

    def __init__(self, auth: Authenticator, reader: Reader, txn_ops_max: int) -> None:
        self.book = auth.book
        self._auth = auth
        self._reader = reader
        self._txn_ops_max = txn_ops_max
        self._unary: dict[str, _UnaryRule] = {
            **dict.fromkeys(ADMINS_ONLY, self._by_admin),
            **dict.fromkeys(USERS_ONLY, self._by_user),
            "/etcdserverpb.KV/Range": self._range,
            "/etcdserverpb.KV/Txn": self._txn,
            "/etcdserverpb.Lease/LeaseTimeToLive": self._time_to_live,
            "/etcdserverpb.Lease/LeaseLeases": self._leases,
            "/etcdserverpb.Maintenance/Alarm": self._alarm,
        }
        self._streams: dict[str, _StreamRule] = {
            "/etcdserverpb.KV/RangeStream": self._range_stream,
            "/etcdserverpb.Maintenance/Snapshot": self._streamed_by_admin,
        }

    def restrict(self, methods: Sequence[Method]) -> list[Method]:
        """The same methods with their checks."""
        return [self._restricted(method) for method in methods]

    def _restricted(self, method: Method) -> Method:
        book = self.book
        match method:
            case Unary(path=path) if path in self._unary:
                handler, rule = method.handler, self._unary[path]

                def serve(request: Message, call: Call) -> Awaitable[Reply]:
                    if not book.state.enabled:
                        return handler(request, call)
                    return rule(handler, request, call)

                return replace(method, handler=serve, at_once=self._unless_enabled(method.at_once))
            case ServerStream(path=path) if path in self._streams:
                streamed, stream_rule = method.handler, self._streams[path]

                def stream(request: Message, call: Call) -> AsyncIterator[Message | bytes]:
                    if not book.state.enabled:
                        return streamed(request, call)
                    return stream_rule(streamed, request, call)

                return replace(method, handler=stream)
            case _:
                return method

    def _unless_enabled(self, quick: QuickHandler | None) -> QuickHandler | None:
        """A quick answer, while there is nothing to check."""
        if quick is None:
            return None
        book = self.book

        def serve(request: Message, call: Call) -> Reply | Later | None:
            return None if book.state.enabled else quick(request, call)

        return serve

    # --- for streams in both directions, which ask for each message -----------------------------

    async def check_renewal(self, call: Call, lease: LeaseID) -> None:
        """Raise unless the caller may write all keys of the lease."""
        if not self.book.state.enabled:
            return
        who = await self._auth.require(call)
        if self.book.state.is_admin(who):
            return
        await self._reader.linearizable()
        state = self.book.state
        await self._reader.read(lambda view: check_lease_writes(state, view, who, lease))
        self._unchanged(who)

    async def watch_refusal(self, call: Call, keys: KeyRange) -> str | None:
        """Why the caller may not watch these keys, in etcd's words; None when it may."""
        if not self.book.state.enabled:
            return None
        try:
            who = await self._auth.identify(call) or NOBODY
            self.book.state.check_read(who, keys)
        except RequestError as error:
            refusal = error if type(error) in _WATCH_REASONS else PermissionDenied()
            code = _WATCH_REASONS.get(type(refusal), "PermissionDenied")
            return f"rpc error: code = {code} desc = {refusal.message}"
        return None

    # --- rules ---------------------------------------------------------------------------------

    async def _by_admin(self, handler: UnaryHandler, request: Message, call: Call) -> Reply:
        await self._auth.require_admin(call)
        return await handler(request, call)

    async def _streamed_by_admin(
        self, handler: StreamHandler, request: Message, call: Call
    ) -> AsyncIterator[Message | bytes]:
        await self._auth.require_admin(call)
        async for reply in handler(request, call):
            yield reply

    async def _by_user(self, handler: UnaryHandler, request: Message, call: Call) -> Reply:
        await self._auth.require(call)
        return await handler(request, call)

    async def _alarm(
        self, handler: UnaryHandler, request: rpc_pb2.AlarmRequest, call: Call
    ) -> Reply:
        rule = self._by_user if request.action == request.GET else self._by_admin
        return await rule(handler, request, call)

    async def _range(
        self, handler: UnaryHandler, request: rpc_pb2.RangeRequest, call: Call
    ) -> Reply:
        validate.check_range(request)
        who = await self._reading(request, call)
        reply = await handler(request, call)
        self._unchanged(who)
        return reply

    async def _range_stream(
        self, handler: StreamHandler, request: rpc_pb2.RangeRequest, call: Call
    ) -> AsyncIterator[Message | bytes]:
        validate.check_range_stream(request)
        who = await self._reading(request, call)
        async for chunk in handler(request, call):
            yield chunk
        self._unchanged(who)

    async def _reading(self, request: rpc_pb2.RangeRequest, call: Call) -> Identity:
        """The caller, who may read this at a point that is linearizable if it is to be."""
        if not request.serializable:
            await self._reader.linearizable()
            request.serializable = True  # from here on: waiting once is enough
        who = await self._auth.identify(call) or NOBODY
        self.book.state.check_read(who, KeyRange.of(request.key, request.range_end))
        return who

    async def _txn(self, handler: UnaryHandler, request: rpc_pb2.TxnRequest, call: Call) -> Reply:
        """One that writes is checked in apply."""
        if validate.check_txn(request, self._txn_ops_max):
            return await handler(request, call)
        if not is_serializable(request):
            await self._reader.linearizable()
        who = await self._auth.identify(call) or NOBODY
        state = self.book.state
        await self._reader.read(lambda view: check_txn(state, view, who, request))
        reply = await handler(request, call)
        self._unchanged(who)
        return reply

    async def _time_to_live(
        self, handler: UnaryHandler, request: rpc_pb2.LeaseTimeToLiveRequest, call: Call
    ) -> Reply:
        """The time is for every user, the keys are for those who may read them."""
        who = await self._auth.require(call)
        if not request.keys:
            return await handler(request, call)
        await self._reader.linearizable()
        state = self.book.state
        await self._reader.read(lambda view: check_lease_reads(state, view, who, request.ID))
        reply = await handler(request, call)
        if self.book.state.revision != state.revision:
            raise AuthOldRevision
        return reply

    async def _leases(
        self, handler: UnaryHandler, request: rpc_pb2.LeaseLeasesRequest, call: Call
    ) -> Reply:
        """For those who may read the keys of all leases."""
        who = await self._auth.require(call)
        state = self.book.state
        if not state.is_admin(who):
            await self._reader.read(lambda view: _check_all_leases(state, view, who))
        if self.book.state.revision != state.revision:
            raise AuthOldRevision
        return await handler(request, call)

    def _unchanged(self, who: Identity) -> None:
        """Raise when users or permissions have changed since: the answer may not be for `who`."""
        if self.book.state.revision != who.revision != 0:
            raise AuthOldRevision


def _check_all_leases(state: AuthState, view: ReadView, who: Identity) -> None:
    for lease in view.leases():
        check_lease_reads(state, view, who, lease.id)
