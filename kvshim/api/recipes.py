"""What locks and elections have in common: a queue of keys, of which the oldest has its turn.

The keys, requests and rules are those of etcd's Go client (`client/v3/concurrency`), so that its
users and those of the services wait in one queue. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from kvshim.api.own_client import OwnClient
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Call

T = TypeVar("T")

SESSION_SECONDS = 60
"""How long a lease lives that the server makes, since the client named none."""


async def session(own: OwnClient, lease: int, call: Call) -> int:
    """The lease to hold a key by: the one given or a new one. Nobody renews either."""
    if lease:
        return lease
    granted = await own.grant(rpc_pb2.LeaseGrantRequest(TTL=SESSION_SECONDS), call)
    return granted.ID


async def to_its_end(change: Coroutine[Any, Any, T]) -> T:
    """The outcome of a change, even if the client leaves meanwhile: whoever waits on afterwards is
    told of that then, and knows what there is to be undone."""
    task = asyncio.ensure_future(change)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        outcome = await task
        this = asyncio.current_task()
        assert this is not None
        this.uncancel()
        this.cancel()
        return outcome


def queue_of(name: bytes) -> bytes:
    """What all keys of a lock or an election begin with."""
    return name + b"/"


def key_in(queue: bytes, lease: int) -> bytes:
    return queue + f"{lease:x}".encode()


def oldest_in(queue: bytes) -> rpc_pb2.RangeRequest:
    """The request for the key whose turn it is."""
    return _by_age(queue, rpc_pb2.RangeRequest.ASCEND)


def created_at(key: bytes, revision: int) -> rpc_pb2.Compare:
    """That a key is the one made at a revision; 0: that there is none."""
    return rpc_pb2.Compare(
        result=rpc_pb2.Compare.EQUAL,
        target=rpc_pb2.Compare.CREATE,
        key=key,
        create_revision=revision,
    )


def put(key: bytes, value: bytes, lease: int) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value, lease=lease))


def entering(key: bytes, value: bytes, lease: int, *also: rpc_pb2.RequestOp) -> rpc_pb2.TxnRequest:
    """Queue a key unless the lease has it queued, which is then shown; and do `also`."""
    shown = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key))
    return rpc_pb2.TxnRequest(
        compare=[created_at(key, 0)],
        success=[put(key, value, lease), *also],
        failure=[shown, *also],
    )


async def wait_for_older(own: OwnClient, queue: bytes, revision: int, call: Call) -> None:
    """Wait until no key of the queue is left that was made before `revision`.

    It waits for the youngest of them alone, so that a key's end wakes one waiter and not all.
    """
    youngest = _by_age(queue, rpc_pb2.RangeRequest.DESCEND)
    youngest.max_create_revision = revision - 1
    while (found := await own.range(youngest, call)).kvs:
        await _wait_deleted(own, found.kvs[0].key, found.header.revision, call)


async def _wait_deleted(own: OwnClient, key: bytes, revision: int, call: Call) -> None:
    request = rpc_pb2.WatchCreateRequest(key=key, start_revision=revision)
    async with aclosing(own.events(request, call)) as events:
        async for _, event in events:
            if event.type == event.DELETE:
                return


def _by_age(queue: bytes, order: rpc_pb2.RangeRequest.SortOrder) -> rpc_pb2.RangeRequest:
    return rpc_pb2.RangeRequest(
        key=queue,
        range_end=end_of(queue),
        limit=1,
        sort_order=order,
        sort_target=rpc_pb2.RangeRequest.CREATE,
    )


def end_of(queue: bytes) -> bytes:
    """The end of the range of a queue's keys."""
    return queue[:-1] + b"0"  # the byte after the slash
