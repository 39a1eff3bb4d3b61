"""What a leader decides about leases, on its way into the log, with the term it decided in.

Event loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvshim.errors import NotLeader
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import (
    Command,
    LeaseCheckpointRequest,
    LeaseCheckpointResponse,
)
from kvshim.server.leadership import Leadership
from kvshim.server.proposer import Proposer
from kvshim.types import LeaseID


class LeaseProposals:
    """The Lessor's `revoke` and `checkpoint`; apply refuses what comes in another term."""

    def __init__(self, proposer: Proposer, leadership: Leadership) -> None:
        self._proposer = proposer
        self._leadership = leadership

    async def revoke(self, lease: LeaseID) -> None:
        """End a lease that has run out. Raises `NotLeader` and what a proposal may."""
        command = Command(
            lease_revoke=rpc_pb2.LeaseRevokeRequest(ID=lease), decided_in_term=self._term()
        )
        await self._proposer.propose(command, rpc_pb2.LeaseRevokeResponse)

    async def checkpoint(self, leases: Sequence[tuple[LeaseID, int]]) -> None:
        """Store how many seconds each lease has left; 0 gives it its full time again."""
        request = LeaseCheckpointRequest(
            leases=[
                LeaseCheckpointRequest.Lease(id=lease, remaining_ttl=seconds)
                for lease, seconds in leases
            ]
        )
        command = Command(lease_checkpoint=request, decided_in_term=self._term())
        await self._proposer.propose(command, LeaseCheckpointResponse)

    def _term(self) -> int:
        if not self._leadership.leads:
            raise NotLeader
        return self._leadership.term
