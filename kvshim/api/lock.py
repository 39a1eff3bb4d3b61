"""v3lockpb.Lock: locks for clients that cannot build them from transactions, as etcd has them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from kvshim.api.own_client import OwnClient, SeenByClient
from kvshim.api.recipes import (
    entering,
    key_in,
    oldest_in,
    queue_of,
    session,
    to_its_end,
    wait_for_older,
)
from kvshim.errors import RequestError
from kvshim.pb.etcd import lock_pb2, rpc_pb2
from kvshim.rpc import Call, Method, Reply, Unary


class SessionExpired(SeenByClient):
    text = "mutex: session is expired"


class LockService:
    """Handlers of Lock. Event loop."""

    def __init__(self, own: OwnClient) -> None:
        self._own = own

    def methods(self) -> list[Method]:
        """The service's table."""
        service = "/v3lockpb.Lock/"
        return [
            Unary(service + "Lock", lock_pb2.LockRequest, self.lock, waits=True),
            Unary(service + "Unlock", lock_pb2.UnlockRequest, self.unlock),
        ]

    async def lock(self, request: lock_pb2.LockRequest, call: Call) -> Reply:
        """Queue a key and answer when it is the oldest; the key goes if the client does."""
        lease = await session(self._own, request.lease, call)
        queue = queue_of(request.name)
        key = key_in(queue, lease)
        see_turn = rpc_pb2.RequestOp(request_range=oldest_in(queue))
        request_turn = entering(key, b"", lease, see_turn)
        entered = await to_its_end(self._own.txn(request_turn, call))
        mine, oldest = (answer.response_range.kvs for answer in entered.responses)
        revision = entered.header.revision if entered.succeeded else mine[0].create_revision
        if not oldest or oldest[0].create_revision == revision:
            return lock_pb2.LockResponse(header=entered.header, key=key)
        try:
            await wait_for_older(self._own, queue, revision, call)
            found = await self._own.range(rpc_pb2.RangeRequest(key=key), call)
        except (RequestError, asyncio.CancelledError):
            with suppress(RequestError):  # the lease will end it
                await self._own.delete(rpc_pb2.DeleteRangeRequest(key=key), call)
            raise
        if not found.kvs:
            raise SessionExpired
        return lock_pb2.LockResponse(header=found.header, key=key)

    async def unlock(self, request: lock_pb2.UnlockRequest, call: Call) -> Reply:
        """Delete the key that `lock` answered, whosever it is."""
        deleted = await self._own.delete(rpc_pb2.DeleteRangeRequest(key=request.key), call)
        return lock_pb2.UnlockResponse(header=deleted.header)
