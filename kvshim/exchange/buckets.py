"""What etcd keeps in its file: the buckets, and how their keys and values are written.

As etcd 3.7 has them (`server/storage/schema`): places of versions as HashKV hashes them, users,
roles, leases and alarms as protobuf, members as JSON, numbers as eight bytes, big-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from kvshim.errors import KvshimError
from kvshim.mvcc.records import AuthRecords, LeaseRecord
from kvshim.pb.etcd.auth_pb2 import Role, User
from kvshim.pb.etcd.lease_pb2 import Lease
from kvshim.pb.etcd.rpc_pb2 import AlarmMember
from kvshim.pb.kvshim.member_pb2 import Member
from raft.types import Membership

ALARM: Final = b"alarm"
AUTH: Final = b"auth"
AUTH_ROLES: Final = b"authRoles"
AUTH_USERS: Final = b"authUsers"
CLUSTER: Final = b"cluster"
KEY: Final = b"key"
LEASE: Final = b"lease"
MEMBERS: Final = b"members"
MEMBERS_REMOVED: Final = b"members_removed"
META: Final = b"meta"

AUTH_ENABLED: Final = b"authEnabled"
AUTH_REVISION: Final = b"authRevision"
CONSISTENT_INDEX: Final = b"consistent_index"
FINISHED_COMPACTION: Final = b"finishedCompactRev"
SCHEDULED_COMPACTION: Final = b"scheduledCompactRev"

STORAGE_VERSION: Final = "3.6.0"
"""The etcd that a file needs: nothing in it is newer, so 3.6 takes it, and 3.7 moves it on."""

_PLACE: Final = struct.Struct(">QcQ")
_U64: Final = struct.Struct(">Q")
_MARK: Final = b"t"
_LEASE_ID: Final = struct.Struct(">q")

Pairs = Iterable[tuple[bytes, bytes]]


class BadContent(KvshimError):
    """A file of etcd's holds what etcd would not have written: says what."""


def place(revision: int, sub: int, mark: bytes = b"") -> bytes:
    """The key of a version."""
    return _PLACE.pack(revision, b"_", sub) + mark


def deletion_place(revision: int, sub: int) -> bytes:
    """The key of a deletion."""
    return place(revision, sub, _MARK)


def parse_place(key: bytes) -> tuple[int, int, bool]:
    """(revision, sub-revision, is it a deletion?)"""
    if len(key) not in (_PLACE.size, _PLACE.size + 1) or key[_PLACE.size :] not in (b"", _MARK):
        raise BadContent(f"the bucket key has {key!r}, which is no revision")
    revision, separator, sub = _PLACE.unpack_from(key)
    if separator != b"_":
        raise BadContent(f"the bucket key has {key!r}, which is no revision")
    return revision, sub, len(key) > _PLACE.size


def number(value: int) -> bytes:
    return _U64.pack(value)


def parse_number(value: bytes | None) -> int:
    """0 if it is not there."""
    if value is None:
        return 0
    if len(value) != _U64.size:
        raise BadContent(f"{value!r} is no number of eight bytes")
    return int(_U64.unpack(value)[0])


def auth_pairs(auth: AuthRecords | None, revision_of_none: int) -> Pairs:
    if auth is None:
        return [(AUTH_REVISION, number(revision_of_none))]
    return [
        (AUTH_ENABLED, b"\x01" if auth.enabled else b"\x00"),
        (AUTH_REVISION, number(auth.revision)),
    ]


def user_pairs(users: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for user in users:
        yield User.FromString(user).name, user


def role_pairs(roles: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for role in roles:
        yield Role.FromString(role).name, role


def lease_pairs(leases: Iterable[LeaseRecord]) -> Pairs:
    """etcd sorts by the bytes, which puts negative ids last."""
    return sorted(
        (
            _LEASE_ID.pack(lease.id),
            Lease(ID=lease.id, TTL=lease.ttl, RemainingTTL=lease.remaining_ttl).SerializeToString(),
        )
        for lease in leases
    )


def alarm_pairs(alarms: Iterable[tuple[int, int]]) -> Pairs:
    return sorted(
        (AlarmMember(memberID=member, alarm=kind).SerializeToString(), b"")  # type: ignore[arg-type]
        for member, kind in alarms
    )


def member_pairs(members: Iterable[Member]) -> Pairs:
    """Spares are not told of: etcd knows none, and they hold nothing."""
    return sorted(
        (_member_key(member.id), _member_json(member)) for member in members if not member.spare
    )


def removed_pairs(removed: Iterable[int]) -> Pairs:
    return sorted((_member_key(member), b"removed") for member in removed)


def meta_pairs(
    *, index: int, term: int, compact_revision: int, membership: Membership, version: str
) -> Pairs:
    """A compaction is told as finished: no version that it would take is in the file."""
    voters: dict[str, object] = {"voters": sorted(membership.voters)}
    if membership.learners:
        voters["learners"] = sorted(membership.learners)
    pairs = [
        (b"confState", _json({**voters, "auto_leave": False})),
        (CONSISTENT_INDEX, number(index)),
    ]
    if compact_revision >= 0:
        compacted = place(compact_revision, 0)
        pairs += [(FINISHED_COMPACTION, compacted), (SCHEDULED_COMPACTION, compacted)]
    return [*pairs, (b"storageVersion", version.encode()), (b"term", number(term))]


def cluster_pairs(version: str) -> Pairs:
    return [(b"clusterVersion", version.encode())]


def _member_key(member: int) -> bytes:
    return b"%x" % member


def _member_json(member: Member) -> bytes:
    fields: dict[str, object] = {"id": member.id, "peerURLs": list(member.peer_urls)}
    if member.learner:
        fields["isLearner"] = True
    if member.name:
        fields["name"] = member.name
    if member.client_urls:
        fields["clientURLs"] = list(member.client_urls)
    return _json(fields)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
