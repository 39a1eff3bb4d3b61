"""The cluster's members in the replicated state. Apply thread; reading from any snapshot.

Who votes is decided by `raft.types.Membership`, the same rule that the log's core goes by, so that
the list in the store and the core's own never differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from kvshim.apply.outcome import Applied, MembersChanged
from kvshim.errors import (
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    MemberRefused,
    PeerURLExists,
    RequestError,
)
from kvshim.pb.kvshim.member_pb2 import (
    Member,
    MemberAttributesRequest,
    MemberAttributesResponse,
    MemberChange,
    Members,
    MembersResponse,
    MemberUpdateRequest,
)
from raft.types import ChangeKind, ConfChange, ConfChangeRefused, Membership

META_NAME: Final = "members"


class ReadsMeta(Protocol):
    """A snapshot of the store."""

    def meta(self, name: str) -> bytes | None: ...


class WritesMeta(ReadsMeta, Protocol):
    """The batch that is being applied."""

    def meta_put(self, name: str, value: bytes) -> None: ...


def members_of(view: ReadsMeta) -> list[Member]:
    """All members, by id."""
    return list(_load(view).members)


def removed_of(view: ReadsMeta) -> frozenset[int]:
    """Ids that were members once."""
    return frozenset(_load(view).removed)


def membership_of(view: ReadsMeta) -> Membership:
    """Who votes and who learns."""
    return _membership(members_of(view))


def store_members(batch: WritesMeta, members: Iterable[Member]) -> None:
    """The members that a cluster begins with."""
    batch.meta_put(META_NAME, _encode(members, ()))


def keep_only(batch: WritesMeta, member_id: int) -> Member:
    """Make this the only member, with a vote; the others' ids are never used again.

    Raises `MemberNotFound` if it is none. Only for a cluster that begins anew from one member.
    """
    book = _load(batch)
    member = _find(book, member_id)
    member.learner = False
    gone = [other.id for other in book.members if other.id != member_id]
    batch.meta_put(META_NAME, _encode([member], [*book.removed, *gone]))
    return member


def apply_change(batch: WritesMeta, change: ConfChange) -> tuple[int, Applied]:
    """Bring a change of membership about; returns the command's id and its result."""
    asked = MemberChange.FromString(change.context)
    book = _load(batch)
    try:
        if change.member in book.removed:
            raise ConfChangeRefused(f"member {change.member:x} was removed and cannot come back")
        _membership(book.members).after(change)
    except ConfChangeRefused as refusal:
        return asked.id, Applied(_named(book, change, refusal))
    members = {member.id: member for member in book.members}
    removed = list(book.removed)
    match change.kind:
        case ChangeKind.ADD_LEARNER | ChangeKind.ADD_VOTER:
            member = Member()
            member.CopyFrom(asked.member)
            member.id = change.member
            member.learner = change.kind is ChangeKind.ADD_LEARNER
            members[change.member] = member
        case ChangeKind.PROMOTE:
            members[change.member].learner = False
        case ChangeKind.DEMOTE:
            members[change.member].learner = True
        case ChangeKind.REMOVE:
            del members[change.member]
            removed.append(change.member)
    batch.meta_put(META_NAME, _encode(members.values(), removed))
    return asked.id, _changed(members.values())


def apply_attributes(batch: WritesMeta, request: MemberAttributesRequest) -> Applied:
    """A member's name and client addresses."""
    book = _load(batch)
    member = _find(book, request.id)
    member.name = request.name
    del member.client_urls[:]
    member.client_urls.extend(request.client_urls)
    batch.meta_put(META_NAME, book.SerializeToString())
    return Applied(MemberAttributesResponse(), effects=_changed(book.members).effects)


def apply_update(batch: WritesMeta, request: MemberUpdateRequest) -> Applied:
    """A member's peer addresses."""
    book = _load(batch)
    member = _find(book, request.id)
    taken = {url for other in book.members if other.id != request.id for url in other.peer_urls}
    if taken.intersection(request.peer_urls):
        raise PeerURLExists
    del member.peer_urls[:]
    member.peer_urls.extend(request.peer_urls)
    batch.meta_put(META_NAME, book.SerializeToString())
    return _changed(book.members)


def _named(book: Members, change: ConfChange, refusal: ConfChangeRefused) -> RequestError:
    """etcd's error for a change that came too late for what it asks."""
    known = any(member.id == change.member for member in book.members)
    match change.kind:
        case _ if change.member in book.removed:
            return MemberNotFound()
        case ChangeKind.ADD_LEARNER | ChangeKind.ADD_VOTER if known:
            return MemberExists()
        case ChangeKind.PROMOTE if known:
            return MemberNotLearner()
        case ChangeKind.PROMOTE | ChangeKind.DEMOTE | ChangeKind.REMOVE if not known:
            return MemberNotFound()
        case _:
            return MemberRefused(str(refusal))


def _changed(members: Iterable[Member]) -> Applied:
    listed = tuple(members)
    return Applied(MembersResponse(members=listed), effects=(MembersChanged(listed),))


def _find(book: Members, member_id: int) -> Member:
    for member in book.members:
        if member.id == member_id:
            return member
    raise MemberNotFound


def _load(view: ReadsMeta) -> Members:
    return Members.FromString(view.meta(META_NAME) or b"")


def _encode(members: Iterable[Member], removed: Iterable[int]) -> bytes:
    listed = sorted(members, key=lambda member: member.id)
    return Members(members=listed, removed=sorted(removed)).SerializeToString()


def _membership(members: Iterable[Member]) -> Membership:
    listed = list(members)
    return Membership.of(
        (member.id for member in listed if not member.learner),
        (member.id for member in listed if member.learner),
    )
