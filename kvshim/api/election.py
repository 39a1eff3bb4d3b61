"""v3electionpb.Election: who leads among clients, and with which value, as etcd has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

from kvshim.api.own_client import OwnClient, SeenByClient
from kvshim.api.recipes import (
    created_at,
    end_of,
    entering,
    key_in,
    oldest_in,
    put,
    queue_of,
    session,
    to_its_end,
    wait_for_older,
)
from kvshim.errors import RequestError
from kvshim.pb.etcd import election_pb2, kv_pb2, rpc_pb2
from kvshim.rpc import Call, Method, Reply, ServerStream, Unary


class NotLeading(SeenByClient):
    text = "election: not leader"


class NobodyLeads(SeenByClient):
    text = "election: no leader"


class LeaderKeyMissing(SeenByClient):
    text = '"leader" field must be provided'


class ElectionService:
    """Handlers of Election. Event loop."""

    def __init__(self, own: OwnClient) -> None:
        self._own = own

    def methods(self) -> list[Method]:
        """The service's table."""
        service = "/v3electionpb.Election/"
        return [
            Unary(service + "Campaign", election_pb2.CampaignRequest, self.campaign, waits=True),
            Unary(service + "Proclaim", election_pb2.ProclaimRequest, self.proclaim),
            Unary(service + "Leader", election_pb2.LeaderRequest, self.leader),
            ServerStream(service + "Observe", election_pb2.LeaderRequest, self.observe),
            Unary(service + "Resign", election_pb2.ResignRequest, self.resign),
        ]

    async def campaign(self, request: election_pb2.CampaignRequest, call: Call) -> Reply:
        """Queue a key with a value and answer when it is the oldest; the key goes if the client
        does."""
        lease = await session(self._own, request.lease, call)
        queue = queue_of(request.name)
        key = key_in(queue, lease)
        request_turn = entering(key, request.value, lease)
        entered = await to_its_end(self._own.txn(request_turn, call))
        leader = election_pb2.LeaderKey(
            name=request.name, key=key, rev=entered.header.revision, lease=lease
        )
        if not entered.succeeded:
            await self._campaign_again(leader, entered, request.value, call)
        try:
            await wait_for_older(self._own, queue, leader.rev, call)
        except asyncio.CancelledError:
            with suppress(RequestError):  # the lease will end it
                await self._resign(leader, call)
            raise
        return election_pb2.CampaignResponse(header=entered.header, leader=leader)

    async def _campaign_again(
        self,
        leader: election_pb2.LeaderKey,
        entered: rpc_pb2.TxnResponse,
        value: bytes,
        call: Call,
    ) -> None:
        """Go on with the key that the lease has queued before, with the new value."""
        [mine] = entered.responses[0].response_range.kvs
        leader.rev = mine.create_revision
        if mine.value == value:
            return
        try:
            await self._proclaim(leader, leader.lease, value, call)
        except RequestError:
            with suppress(RequestError):
                await self._resign(leader, call)
            raise

    async def proclaim(self, request: election_pb2.ProclaimRequest, call: Call) -> Reply:
        """Put another value under the leader's key."""
        if not request.HasField("leader"):
            raise LeaderKeyMissing
        lease = await session(self._own, request.leader.lease, call)
        header = await self._proclaim(request.leader, lease, request.value, call)
        return election_pb2.ProclaimResponse(header=header)

    async def _proclaim(
        self, leader: election_pb2.LeaderKey, lease: int, value: bytes, call: Call
    ) -> rpc_pb2.ResponseHeader:
        request = rpc_pb2.TxnRequest(
            compare=[created_at(leader.key, leader.rev)], success=[put(leader.key, value, lease)]
        )
        answer = await self._own.txn(request, call)
        if not answer.succeeded:
            raise NotLeading
        return answer.header

    async def leader(self, request: election_pb2.LeaderRequest, call: Call) -> Reply:
        """Who leads now."""
        found = await self._own.range(oldest_in(queue_of(request.name)), call)
        if not found.kvs:
            raise NobodyLeads
        return election_pb2.LeaderResponse(header=found.header, kv=found.kvs[0])

    async def resign(self, request: election_pb2.ResignRequest, call: Call) -> Reply:
        """Delete the leader's key, if it is still the one that was elected."""
        if not request.HasField("leader"):
            raise LeaderKeyMissing
        await session(self._own, request.leader.lease, call)
        header = await self._resign(request.leader, call)
        return election_pb2.ResignResponse(header=header)

    async def _resign(self, leader: election_pb2.LeaderKey, call: Call) -> rpc_pb2.ResponseHeader:
        delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=leader.key))
        request = rpc_pb2.TxnRequest(compare=[created_at(leader.key, leader.rev)], success=[delete])
        return (await self._own.txn(request, call)).header

    async def observe(
        self, request: election_pb2.LeaderRequest, call: Call
    ) -> AsyncIterator[election_pb2.LeaderResponse]:
        """Every leader and every value, of those that are missed the last; as in etcd the stream
        ends without an error when it cannot go on."""
        queue = queue_of(request.name)
        with suppress(RequestError):
            while True:
                first = await self._first_leader(queue, call)
                yield first
                async with aclosing(self._values(first, call)) as later:
                    async for response in later:
                        yield response

    async def _first_leader(self, queue: bytes, call: Call) -> election_pb2.LeaderResponse:
        found = await self._own.range(oldest_in(queue), call)
        if found.kvs:
            return election_pb2.LeaderResponse(header=found.header, kv=found.kvs[0])
        request = rpc_pb2.WatchCreateRequest(
            key=queue, range_end=end_of(queue), start_revision=found.header.revision
        )
        async with aclosing(self._own.events(request, call)) as events:
            async for header, event in events:
                if event.type == kv_pb2.Event.PUT:
                    header.revision = event.kv.mod_revision
                    return election_pb2.LeaderResponse(header=header, kv=event.kv)
        raise AssertionError("a watch has no end")

    async def _values(
        self, first: election_pb2.LeaderResponse, call: Call
    ) -> AsyncGenerator[election_pb2.LeaderResponse]:
        """What a leader proclaims, until its key is gone."""
        request = rpc_pb2.WatchCreateRequest(
            key=first.kv.key, start_revision=first.header.revision + 1
        )
        async with aclosing(self._own.events(request, call)) as events:
            async for header, event in events:
                if event.type == kv_pb2.Event.DELETE:
                    return
                yield election_pb2.LeaderResponse(header=header, kv=event.kv)
