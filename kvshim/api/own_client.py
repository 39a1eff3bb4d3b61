"""This server as a client of itself: what etcd's Lock and Election services are built on.

Requests go to the handlers that serve clients, checks included, as calls of whoever asked for the
lock. What fails looks as it does to a program that uses etcd's Go client. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from kvshim.errors import Code, Compacted, RequestError
from kvshim.pb.etcd import kv_pb2, rpc_pb2
from kvshim.rpc import Bidi, BidiHandler, Call, Method, SlicedBody, Unary

_M = TypeVar("_M", bound=Message)

WAITING_MAX = 8
"""Watch responses that wait to be looked at; until one is, no more are taken."""


class SeenByClient(RequestError):
    """etcd's client knows the text of an error and loses its code."""

    code = Code.UNKNOWN


class WatchCanceled(RequestError):
    """The text is the reason that the server gave."""

    code = Code.FAILED_PRECONDITION


class OwnClient:
    """Calls of `methods`, which must be those of KV, Lease and Watch."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self._unary = {method.path: method for method in methods if isinstance(method, Unary)}
        [self._watch] = [
            method.handler
            for method in methods
            if isinstance(method, Bidi) and method.path == "/etcdserverpb.Watch/Watch"
        ]

    async def range(self, request: rpc_pb2.RangeRequest, call: Call) -> rpc_pb2.RangeResponse:
        return await self._ask("KV/Range", request, rpc_pb2.RangeResponse, call)

    async def delete(
        self, request: rpc_pb2.DeleteRangeRequest, call: Call
    ) -> rpc_pb2.DeleteRangeResponse:
        return await self._ask("KV/DeleteRange", request, rpc_pb2.DeleteRangeResponse, call)

    async def txn(self, request: rpc_pb2.TxnRequest, call: Call) -> rpc_pb2.TxnResponse:
        return await self._ask("KV/Txn", request, rpc_pb2.TxnResponse, call)

    async def grant(
        self, request: rpc_pb2.LeaseGrantRequest, call: Call
    ) -> rpc_pb2.LeaseGrantResponse:
        return await self._ask("Lease/LeaseGrant", request, rpc_pb2.LeaseGrantResponse, call)

    async def events(
        self, request: rpc_pb2.WatchCreateRequest, call: Call
    ) -> AsyncGenerator[tuple[rpc_pb2.ResponseHeader, kv_pb2.Event]]:
        """What one watcher is told, each with its response's header; close it when done.

        Never ends by itself; raises `RequestError` when the watcher does.
        """
        stream = _OneWatch(call, request)
        task = asyncio.ensure_future(stream.serve(self._watch))
        try:
            while not isinstance(told := await stream.told.get(), Exception):
                if told.canceled:
                    raise _why_canceled(told)
                for event in told.events:
                    yield told.header, event
            raise told
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _ask(self, path: str, request: Message, response: type[_M], call: Call) -> _M:
        try:
            reply = await self._unary[f"/etcdserverpb.{path}"].handler(request, call)
            if isinstance(reply, SlicedBody):
                reply = b"".join([part async for part in reply.slices])
        except RequestError as error:
            raise SeenByClient(error.message) from None
        if isinstance(reply, bytes):
            return response.FromString(reply)
        assert isinstance(reply, response)
        return reply


class _OneWatch:
    """A stream of Watch with one request: `kvshim.rpc.BidiCall` on behalf of another call."""

    def __init__(self, call: Call, request: rpc_pb2.WatchCreateRequest) -> None:
        self._call = call
        self._requests = [rpc_pb2.WatchRequest(create_request=request)]
        self.told: asyncio.Queue[rpc_pb2.WatchResponse | Exception] = asyncio.Queue(WAITING_MAX)

    async def serve(self, handler: BidiHandler) -> None:
        """Serve the stream; what ends it is the last that is told."""
        try:
            await handler(self)
        except Exception as failure:
            await self.told.put(failure)

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._call.metadata

    @property
    def peer(self) -> str:
        return self._call.peer

    @property
    def common_name(self) -> str | None:
        return self._call.common_name

    def deadline_seconds(self) -> float | None:
        return self._call.deadline_seconds()

    async def receive(self) -> Message | None:
        return self._requests.pop() if self._requests else None

    async def send(self, reply: Message | bytes) -> None:
        data = reply if isinstance(reply, bytes) else reply.SerializeToString()
        await self.told.put(rpc_pb2.WatchResponse.FromString(data))

    def flush(self) -> None:
        """Each is told at once."""


def _why_canceled(response: rpc_pb2.WatchResponse) -> RequestError:
    if response.compact_revision:
        return SeenByClient(Compacted.text)
    return WatchCanceled(response.cancel_reason)
