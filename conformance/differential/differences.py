"""What may differ between the answers of etcd and kvshim, each with the reason; all else is equal.

This is the whole list: an answer that differs in anything else fails the suite. The same in prose,
with what follows from it for users, is `docs/differences.md`. Both servers are started with the
same names and peer URLs, so ids of cluster and member are the same and have no entry here. Ids that
a server chose (leases, members added) are compared by the names that `compare.py` gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from kvshim.pb.etcd import rpc_pb2


@dataclass(frozen=True, slots=True)
class Free:
    """A field of a message that is not compared."""

    message: str
    field: str
    why: str


FREE = (
    Free(
        "ResponseHeader",
        "raft_term",
        "a first term depends on how a server bootstraps, not on what clients did",
    ),
    Free("StatusResponse", "raftTerm", "as in the header"),
    Free(
        "StatusResponse",
        "raftIndex",
        "etcd logs its version, users' reads and checks of leases as well",
    ),
    Free("StatusResponse", "raftAppliedIndex", "as raftIndex"),
    Free("StatusResponse", "dbSize", "the files are made differently"),
    Free("StatusResponse", "dbSizeInUse", "the files are made differently"),
    Free(
        "StatusResponse",
        "storageVersion",
        "it rises in the first seconds of a server, as soon as all members are known to serve it",
    ),
    Free("DowngradeResponse", "version", "as storageVersion"),
    Free(
        "HashResponse",
        "hash",
        "it is of the whole file, to compare members of one version; HashKV is compared",
    ),
    Free("AuthenticateResponse", "token", "it is random"),
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Changes a message to what has to be equal."""

    message: str
    change: Callable[[Any], None]
    why: str


def _remaining(answer: rpc_pb2.LeaseTimeToLiveResponse) -> None:
    if 0 < answer.TTL <= answer.grantedTTL <= answer.TTL + SECONDS_SLOW_MAX:
        answer.TTL = answer.grantedTTL
    answer.keys[:] = sorted(answer.keys)


def _errors(answer: rpc_pb2.StatusResponse) -> None:
    answer.errors[:] = sorted(" ".join(error.split()) for error in answer.errors)


def _alarms(answer: rpc_pb2.AlarmResponse) -> None:
    ordered = sorted(answer.alarms, key=lambda alarm: (alarm.alarm, alarm.memberID))
    answer.ClearField("alarms")
    answer.alarms.extend(ordered)


SECONDS_SLOW_MAX = 30
"""What a busy machine may let pass between a grant and the question."""

RULES = (
    Rule(
        "LeaseTimeToLiveResponse",
        _remaining,
        "seconds pass differently between grant and question; the keys have no order in etcd",
    ),
    Rule(
        "StatusResponse",
        _errors,
        "protobuf for Go puts one blank or two between fields, and promises neither; alarms have no"
        " order in etcd, which keeps them in a map of Go",
    ),
    Rule("AlarmResponse", _alarms, "as in StatusResponse"),
)


def _changes() -> Mapping[str, tuple[Callable[[Any], None], ...]]:
    changes: dict[str, tuple[Callable[[Any], None], ...]] = {}
    for free in FREE:

        def clear(message: Any, name: str = free.field) -> None:
            message.ClearField(name)

        changes[free.message] = (*changes.get(free.message, ()), clear)
    for rule in RULES:
        changes[rule.message] = (*changes.get(rule.message, ()), rule.change)
    return changes


_CHANGES = _changes()
_NOTHING: tuple[Callable[[Any], None], ...] = ()


def normalise(answer: Message) -> None:
    """Take out of an answer what may differ."""
    if isinstance(answer, rpc_pb2.RangeStreamResponse):
        answer = answer.range_response
    for change in _CHANGES.get(answer.DESCRIPTOR.name, _NOTHING):
        change(answer)
    if (header := getattr(answer, "header", None)) is not None:
        for change in _CHANGES["ResponseHeader"]:
            change(header)
