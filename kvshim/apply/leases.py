"""Granting and revoking leases as replicated state. Time is not known here: only the leader's
lessor counts it, and proposes a revoke when a lease has run out.

Revoking deletes the lease's keys in byte order in one revision; without keys it makes none (etcd
`server/lease/lessor.go`). Apply thread.
"""

from __future__ import annotations

from kvshim.apply.outcome import Applied, LeaseCheckpointed, LeaseGranted, LeaseRevoked
from kvshim.errors import LeaseExists, LeaseNotFound, LeaseTTLTooLarge
from kvshim.mvcc.records import LeaseRecord
from kvshim.mvcc.store import WriteBatch
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import LeaseCheckpointRequest, LeaseCheckpointResponse
from kvshim.types import NO_LEASE, KeyRange, LeaseID

TTL_MAX_SECONDS = 9_000_000_000


def apply_lease_grant(batch: WriteBatch, request: rpc_pb2.LeaseGrantRequest) -> Applied:
    """Record a lease under the id and time to live that the proposer chose."""
    lease = LeaseID(request.ID)
    if lease == NO_LEASE:
        raise LeaseNotFound
    if request.TTL > TTL_MAX_SECONDS:
        raise LeaseTTLTooLarge
    if batch.lease(lease) is not None:
        raise LeaseExists
    batch.lease_put(LeaseRecord(lease, request.TTL, 0))
    response = rpc_pb2.LeaseGrantResponse(
        header=rpc_pb2.ResponseHeader(revision=batch.revision), ID=lease, TTL=request.TTL
    )
    return Applied(response, effects=[LeaseGranted(lease, request.TTL)])


def apply_lease_revoke(batch: WriteBatch, request: rpc_pb2.LeaseRevokeRequest) -> Applied:
    """Forget a lease and delete the keys attached to it."""
    lease = LeaseID(request.ID)
    if batch.lease(lease) is None:
        raise LeaseNotFound
    txn = batch.begin()
    for key in batch.lease_keys(lease):
        txn.delete_range(KeyRange.of(key, b""))
    events = txn.finish()
    batch.lease_delete(lease)
    response = rpc_pb2.LeaseRevokeResponse(header=rpc_pb2.ResponseHeader(revision=batch.revision))
    return Applied(response, events, [LeaseRevoked(lease)])


def apply_lease_checkpoint(batch: WriteBatch, request: LeaseCheckpointRequest) -> Applied:
    """Store how much time leases have left; those that ended meanwhile are passed over."""
    effects = []
    for checkpoint in request.leases:
        lease = LeaseID(checkpoint.id)
        record = batch.lease(lease)
        if record is not None:
            batch.lease_put(LeaseRecord(lease, record.ttl, checkpoint.remaining_ttl))
            effects.append(LeaseCheckpointed(lease, checkpoint.remaining_ttl))
    return Applied(LeaseCheckpointResponse(), effects=effects)
