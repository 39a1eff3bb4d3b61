"""The commands that a node proposes by itself, as the rooms that decide on them call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvshim.errors import Compacted, NotLeader, RequestError
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.server.proposer import Proposer
from kvshim.types import LeaseID, Revision


@dataclass(frozen=True, slots=True)
class OwnProposals:
    """Each returns when its command is applied, or raises its `RequestError`. Event loop."""

    proposer: Proposer
    member_id: int
    leads: Callable[[], bool]
    on_compaction_failed: Callable[[Revision, str], None]

    async def change_nospace(self, raised: bool) -> None:  # noqa: FBT001
        """Raise or clear this member's NOSPACE alarm, on every member."""
        await self._change_alarm(rpc_pb2.NOSPACE, raised=raised)

    async def raise_corrupt(self) -> None:
        """Raise this member's CORRUPT alarm, on every member."""
        await self.change_corrupt(self.member_id, raised=True)

    async def change_corrupt(self, member_id: int, raised: bool) -> None:  # noqa: FBT001
        """Raise or clear a member's CORRUPT alarm, on every member; 0 names none of them."""
        await self._change_alarm(rpc_pb2.CORRUPT, raised=raised, member_id=member_id)

    async def _change_alarm(
        self, alarm: rpc_pb2.AlarmType, *, raised: bool, member_id: int | None = None
    ) -> None:
        action = rpc_pb2.AlarmRequest.ACTIVATE if raised else rpc_pb2.AlarmRequest.DEACTIVATE
        named = self.member_id if member_id is None else member_id
        request = rpc_pb2.AlarmRequest(action=action, memberID=named, alarm=alarm)
        await self.proposer.propose(Command(alarm=request), rpc_pb2.AlarmResponse)

    async def revoke(self, lease: LeaseID) -> None:
        """End a lease that has run out."""
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        await self.proposer.propose(Command(lease_revoke=request), rpc_pb2.LeaseRevokeResponse)

    async def compact(self, revision: Revision) -> None:
        """Compact as `--auto-compaction-retention` asks."""
        if not self.leads():
            raise NotLeader  # the leader compacts, once for all
        request = rpc_pb2.CompactionRequest(revision=revision)
        try:
            await self.proposer.propose(Command(compaction=request), rpc_pb2.CompactionResponse)
        except Compacted:
            raise
        except RequestError as refusal:
            self.on_compaction_failed(revision, refusal.message)
            raise
