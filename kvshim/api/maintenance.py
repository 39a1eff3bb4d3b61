"""etcdserverpb.Maintenance: status, alarms, hashes, snapshots, a Defragment with nothing to do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial

from kvshim.api.changes import Changes
from kvshim.api.header import Headers
from kvshim.backend.backend import Sizes
from kvshim.errors import (
    BadTransferee,
    InvalidDowngradeTarget,
    NotLeader,
    TransferTimedOut,
    UnknownAction,
    WrongDowngradeFormat,
)
from kvshim.mvcc.hashing import hash_all, hash_store
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.rpc import Call, Method, Reply, ServerStream, Unary
from kvshim.server.alarms import Alarms
from kvshim.server.reader import Reader
from kvshim.server.snapshots import Snapshots
from kvshim.server.versions import ClusterVersion
from kvshim.version import ETCD_VERSION, etcd_cluster_version
from raft.interface import MemberId, ProposalDropped, ReplicatedLog

_NUMBER = r"0*(\d{1,19})"
_IDENTIFIER = r"(?:[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}(?:\.{_NUMBER}(?:-{_IDENTIFIER})?(?:\+{_IDENTIFIER})?)?", re.ASCII
)
"""What Downgrade takes for a version: three numbers and more as semver has it, or two."""

SNAPSHOT_PIECE_BYTES = 32 * 1024
"""etcd's size: of a client that reads slowly, so much waits in memory."""


class MaintenanceService:
    """Handlers of Maintenance. Event loop."""

    def __init__(
        self,
        *,
        store: Store,
        log: ReplicatedLog,
        changes: Changes,
        reader: Reader,
        alarms: Alarms,
        headers: Headers,
        snapshots: Snapshots,
        version: ClusterVersion,
        sizes: Callable[[], Sizes],
        quota_bytes: int,
    ) -> None:
        self._store = store
        self._log = log
        self._changes = changes
        self._reader = reader
        self._alarms = alarms
        self._headers = headers
        self._snapshots = snapshots
        self._version = version
        self._sizes = sizes
        self._quota_bytes = quota_bytes

    def methods(self) -> list[Method]:
        """The service's table."""
        maintenance = "/etcdserverpb.Maintenance/"
        return [
            Unary(maintenance + "Status", rpc_pb2.StatusRequest, self.status),
            Unary(maintenance + "Alarm", rpc_pb2.AlarmRequest, self.alarm),
            Unary(maintenance + "Defragment", rpc_pb2.DefragmentRequest, self.defragment),
            Unary(maintenance + "Hash", rpc_pb2.HashRequest, self.hash),
            Unary(maintenance + "HashKV", rpc_pb2.HashKVRequest, self.hash_kv),
            ServerStream(maintenance + "Snapshot", rpc_pb2.SnapshotRequest, self.snapshot),
            Unary(maintenance + "MoveLeader", rpc_pb2.MoveLeaderRequest, self.move_leader),
            Unary(maintenance + "Downgrade", rpc_pb2.DowngradeRequest, self.downgrade),
        ]

    async def status(self, _request: rpc_pb2.StatusRequest, _call: Call) -> Reply:
        """What this member knows of itself, leader or not."""
        log, sizes = self._log.status(), self._sizes()
        errors = [] if log.leader_id else ["etcdserver: no leader"]
        errors += [_alarm_text(member, alarm) for member, alarm in self._alarms.standing]
        return rpc_pb2.StatusResponse(
            header=self._headers.make(),
            version=ETCD_VERSION,
            dbSize=sizes.db_bytes,
            leader=log.leader_id,
            raftIndex=log.commit_index,
            raftTerm=log.term,
            raftAppliedIndex=self._store.applied_index,
            errors=errors,
            dbSizeInUse=sizes.db_bytes_in_use,
            isLearner=log.member_id in log.membership.learners,
            storageVersion=etcd_cluster_version(self._version.current),
            dbSizeQuota=self._quota_bytes,
            downgradeInfo=rpc_pb2.DowngradeInfo(enabled=False),
        )

    async def alarm(self, request: rpc_pb2.AlarmRequest, call: Call) -> Reply:
        """List, raise or clear alarms; listing too goes through the log, so it is never stale."""
        return await self._changes.make(Command(alarm=request), rpc_pb2.AlarmResponse, call)

    async def defragment(self, _request: rpc_pb2.DefragmentRequest, _call: Call) -> Reply:
        """Pages return to the disk by themselves: there is nothing to defragment."""
        return rpc_pb2.DefragmentResponse()

    async def hash(self, _request: rpc_pb2.HashRequest, _call: Call) -> Reply:
        """A hash of the whole store, to compare members of one version."""
        revision, value = await self._reader.read(lambda view: (view.revision, hash_all(view)))
        return rpc_pb2.HashResponse(header=self._headers.make(revision), hash=value)

    async def hash_kv(self, request: rpc_pb2.HashKVRequest, _call: Call) -> Reply:
        """etcd's hash of the key space at a revision; equal histories give equal values."""
        revision, (value, compacted, hashed) = await self._reader.on_thread(
            partial(hash_store, self._store, request.revision)
        )
        return rpc_pb2.HashKVResponse(
            header=self._headers.make(revision),
            hash=value,
            compact_revision=compacted,
            hash_revision=hashed,
        )

    async def snapshot(
        self, _request: rpc_pb2.SnapshotRequest, call: Call
    ) -> AsyncIterator[rpc_pb2.SnapshotResponse]:
        """This member's store as a file of etcd's, and in the last message its SHA-256."""
        async with aclosing(self._snapshots.send(SNAPSHOT_PIECE_BYTES, call.peer)) as pieces:
            async for blob, remaining in pieces:
                yield rpc_pb2.SnapshotResponse(
                    remaining_bytes=remaining,
                    blob=blob,
                    version=etcd_cluster_version(self._version.current),
                )

    async def move_leader(self, request: rpc_pb2.MoveLeaderRequest, _call: Call) -> Reply:
        """Hand leadership over to a voter; only the leader can. etcd answers without a header."""
        status = self._log.status()
        if not status.leads:
            raise NotLeader
        if request.targetID not in status.membership.voters:
            raise BadTransferee
        try:
            await self._log.transfer_leadership(MemberId(request.targetID))
        except TimeoutError:
            raise TransferTimedOut from None
        except ProposalDropped:
            raise NotLeader from None
        return rpc_pb2.MoveLeaderResponse()

    async def downgrade(self, request: rpc_pb2.DowngradeRequest, _call: Call) -> Reply:
        """There is no version to go back to once all members have risen, so every target is
        invalid (docs/adr/0016); there is nothing to cancel, which etcd answers with success."""
        match request.action:
            case request.VALIDATE | request.ENABLE:
                if not _is_version(request.version):
                    raise WrongDowngradeFormat
                await self._reader.linearizable()
                raise InvalidDowngradeTarget
            case request.CANCEL:
                await self._reader.linearizable()
            case _:
                raise UnknownAction
        return rpc_pb2.DowngradeResponse(
            header=self._headers.make(),
            version=etcd_cluster_version(self._version.current).rpartition(".")[0],
        )


def _alarm_text(member: int, alarm: int) -> str:
    """As protobuf writes an AlarmMember: what is zero is left out."""
    parts = [f"memberID:{member}"] if member else []
    if alarm:
        parts.append(f"alarm:{rpc_pb2.AlarmType.Name(_alarm_type(alarm))}")
    return " ".join(parts)


def _alarm_type(number: int) -> rpc_pb2.AlarmType:
    return number  # type: ignore[return-value]


def _is_version(text: str) -> bool:
    found = _VERSION.fullmatch(text)
    return found is not None and all(int(number) < 1 << 63 for number in found.groups("0"))
