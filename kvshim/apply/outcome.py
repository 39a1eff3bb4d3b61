"""What applying a command yields: an answer for whoever waits, and effects for the event loop.

Plain values, made on the apply thread and handed to the loop only at the end of the batch. Those
made for each command or batch are tuples, which cost least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from google.protobuf.message import Message

from kvshim.errors import RequestError
from kvshim.mvcc.events import Event
from kvshim.mvcc.records import LeaseRecord
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.types import LeaseID, Revision


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """A lease exists from now on; `ttl` is in seconds and already raised to the minimum."""

    lease: LeaseID
    ttl: int


@dataclass(frozen=True, slots=True)
class LeaseRevoked:
    """A lease and its keys are gone."""

    lease: LeaseID


@dataclass(frozen=True, slots=True)
class LeaseCheckpointed:
    """The next leader gives a lease `remaining_ttl` seconds, or its full time when that is 0."""

    lease: LeaseID
    remaining_ttl: int


@dataclass(frozen=True, slots=True)
class AlarmChanged:
    """An alarm of a member was raised or cleared; numbers are etcd's."""

    member: int
    alarm: int
    raised: bool


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """The cluster's members are these from now on."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class VersionRaised:
    """The cluster runs at this version from now on."""

    version: int


Effect: TypeAlias = (
    LeaseGranted | LeaseRevoked | LeaseCheckpointed | AlarmChanged | MembersChanged | VersionRaised
)


class Applied(NamedTuple):
    """The result of one command: a response or the error that stands for it, and its effects."""

    response: Message | RequestError
    events: Sequence[Event] = ()
    effects: Sequence[Effect] = ()


class BatchOutcome(NamedTuple):
    """All that one committed batch of commands brought about, in log order.

    `revision` and `applied_index` are the store's after the batch; `answers` pairs each command's
    id with its result.
    """

    revision: Revision
    applied_index: int
    answers: Sequence[tuple[int, Message | RequestError]]
    events: Sequence[Event]
    effects: Sequence[Effect]


@dataclass(frozen=True, slots=True)
class Restored:
    """A snapshot took the store's place: what it holds, for everyone who keeps a part in memory.

    `compacted` is the revision up to which its rows are physically gone; `alarms` are pairs of
    member and alarm, by etcd's numbers; `version` is the cluster's.
    """

    revision: Revision
    applied_index: int
    compacted: Revision
    leases: Sequence[LeaseRecord]
    alarms: Sequence[tuple[int, int]]
    members: Sequence[Member]
    version: int


Outcome: TypeAlias = BatchOutcome | Restored
