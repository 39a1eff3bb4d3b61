"""Alarms as replicated state: raised and cleared by commands, so that every member agrees.

While NOSPACE stands, commands that would store more are refused here, in apply, the same on every
member; while CORRUPT stands, every command but Alarm is (etcd `server/etcdserver/apply`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from kvshim.apply.outcome import AlarmChanged, Applied
from kvshim.apply.quota import cost_of
from kvshim.errors import CorruptCluster, NoSpace
from kvshim.mvcc.store import WriteBatch
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command

Alarm: TypeAlias = tuple[int, int]
"""(member id, alarm type), by etcd's numbers."""

_REQUEST = rpc_pb2.AlarmRequest


def refuse_by_alarm(standing: Iterable[Alarm], command: Command) -> None:
    """Raise the error of the standing alarm that forbids this command, if there is one."""
    kinds = {alarm for _, alarm in standing}
    if command.WhichOneof("operation") == "alarm":
        return
    if rpc_pb2.CORRUPT in kinds:
        raise CorruptCluster
    if rpc_pb2.NOSPACE in kinds and cost_of(command) > 0:
        raise NoSpace


def apply_alarm(batch: WriteBatch, request: rpc_pb2.AlarmRequest) -> Applied:
    """Answer with the alarms asked for (GET) or the one alarm raised or cleared."""
    named = (request.memberID, int(request.alarm))
    standing = batch.alarms()
    match request.action:
        case _REQUEST.GET:
            wanted = [m for m in standing if request.alarm in (rpc_pb2.NONE, m[1])]
            return Applied(_response(wanted))
        case _REQUEST.ACTIVATE if request.alarm != rpc_pb2.NONE:
            if named in standing:
                return Applied(_response([named]))
            batch.alarm_put(*named)
            return Applied(_response([named]), effects=[AlarmChanged(*named, raised=True)])
        case _REQUEST.DEACTIVATE if named in standing:
            batch.alarm_delete(*named)
            return Applied(_response([named]), effects=[AlarmChanged(*named, raised=False)])
        case _:
            return Applied(_response([]))


def _response(alarms: Iterable[Alarm]) -> rpc_pb2.AlarmResponse:
    members = []
    for member, alarm in alarms:
        entry = rpc_pb2.AlarmMember(memberID=member)
        entry.alarm = alarm  # type: ignore[assignment]
        members.append(entry)
    return rpc_pb2.AlarmResponse(alarms=members)
