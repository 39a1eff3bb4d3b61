"""etcdserverpb.Lease: granting, renewing, revoking and listing leases."""

from __future__ import annotations

from kvshim.api.access import Access
from kvshim.api.changes import Changes
from kvshim.api.header import Headers
from kvshim.api.leader_streams import LeaderStreams
from kvshim.errors import LeaseNotFound
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.rpc import Bidi, BidiCall, Call, Method, Reply, Unary
from kvshim.server.lease_calls import LeaseCalls
from kvshim.server.lessor import Lessor
from kvshim.server.reader import Reader
from kvshim.types import LeaseID


class LeaseService:
    """Handlers of Lease. Event loop.

    `ttl_min_seconds` is the shortest lease given out: one and a half election timeouts. `calls`
    reaches the leader; without it this member is alone.
    """

    def __init__(
        self,
        *,
        changes: Changes,
        reader: Reader,
        lessor: Lessor,
        headers: Headers,
        ttl_min_seconds: int,
        access: Access,
        calls: LeaseCalls | None = None,
    ) -> None:
        self._changes = changes
        self._reader = reader
        self._lessor = lessor
        self._headers = headers
        self._calls = calls or LeaseCalls(lessor, reader)
        self._access = access
        self._ttl_min_seconds = ttl_min_seconds
        self._leader_streams = LeaderStreams()
        self.leader_lost = self._leader_streams.leader_lost
        """To be called when there has been no leader for three election timeouts."""

    def methods(self) -> list[Method]:
        """The service's table; LeaseLeases has an older name of the same effect in etcd's API."""
        lease = "/etcdserverpb.Lease/"
        return [
            Unary(lease + "LeaseGrant", rpc_pb2.LeaseGrantRequest, self.grant),
            Unary(lease + "LeaseRevoke", rpc_pb2.LeaseRevokeRequest, self.revoke),
            Bidi(lease + "LeaseKeepAlive", rpc_pb2.LeaseKeepAliveRequest, self.keep_alive),
            Unary(lease + "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest, self.time_to_live),
            Unary(lease + "LeaseLeases", rpc_pb2.LeaseLeasesRequest, self.leases),
        ]

    async def grant(self, request: rpc_pb2.LeaseGrantRequest, call: Call) -> Reply:
        """Create a lease; the id and the raised time to live are chosen before proposing."""
        granted = rpc_pb2.LeaseGrantRequest(
            ID=request.ID or self._changes.new_id(),
            TTL=max(request.TTL, self._ttl_min_seconds),
        )
        command = Command(lease_grant=granted)
        return await self._changes.make(command, rpc_pb2.LeaseGrantResponse, call)

    async def revoke(self, request: rpc_pb2.LeaseRevokeRequest, call: Call) -> Reply:
        """End a lease now and delete its keys."""
        command = Command(lease_revoke=request)
        return await self._changes.make(command, rpc_pb2.LeaseRevokeResponse, call)

    async def keep_alive(self, call: BidiCall) -> None:
        """Renew each lease the client names; an unknown or ended one is answered with TTL 0."""
        async with self._leader_streams.of(call):
            await self._keep_alive(call)

    async def _keep_alive(self, call: BidiCall) -> None:
        while (request := await call.receive()) is not None:
            assert isinstance(request, rpc_pb2.LeaseKeepAliveRequest)
            # Made before the renewal: a lease that ended at a revision is never seen alive at it.
            response = rpc_pb2.LeaseKeepAliveResponse(header=self._headers.make(), ID=request.ID)
            await self._access.check_renewal(call, LeaseID(request.ID))
            try:
                response.TTL = await self._calls.keep_alive(LeaseID(request.ID))
            except LeaseNotFound:
                response.TTL = 0
            await call.send(response)

    async def time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest, _call: Call) -> Reply:
        """Seconds left, -1 for an unknown lease, and the attached keys if asked for."""
        response = rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        lease = LeaseID(request.ID)
        try:
            response.TTL, response.grantedTTL = await self._calls.time_to_live(lease)
        except LeaseNotFound:
            response.header.CopyFrom(self._headers.make())
            return response
        if request.keys:
            await self._reader.linearizable()  # the leader may have told of a lease yet to come
            response.keys.extend(await self._reader.read(lambda view: view.lease_keys(lease)))
        response.header.CopyFrom(self._headers.make())
        return response

    async def leases(self, _request: rpc_pb2.LeaseLeasesRequest, _call: Call) -> Reply:
        """All leases, the one that ends first in front."""
        statuses = [rpc_pb2.LeaseStatus(ID=lease) for lease in self._lessor.leases()]
        return rpc_pb2.LeaseLeasesResponse(header=self._headers.make(), leases=statuses)
