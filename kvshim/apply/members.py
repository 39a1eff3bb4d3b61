"""The cluster's members in the replicated state. Apply thread; reading from any snapshot.

Who votes is decided by `raft.types.Membership`, the same rule that the log's core goes by, so that
the list in the store and the core's own never differ. Spares are in the list alone: a spare that
is to hold the data is added to the core as a learner, and a learner that is not to any more is
removed from there and stays on the list.
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
    SpareRequest,
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
    member.learner = member.spare = False
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
            member.CopyFrom(members.get(change.member, asked.member))  # a spare stays who it is
            member.id = change.member
            member.learner = change.kind is ChangeKind.ADD_LEARNER
            member.spare = False
            members[change.member] = member
        case ChangeKind.PROMOTE:
            members[change.member].learner = False
        case ChangeKind.DEMOTE:
            members[change.member].learner = True
        case ChangeKind.REMOVE if asked.member.spare:
            members[change.member].learner = members[change.member].spare = True
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
    member.failure_domain = request.failure_domain or member.failure_domain
    batch.meta_put(META_NAME, book.SerializeToString())
    return Applied(MemberAttributesResponse(), effects=_changed(book.members).effects)


def apply_update(batch: WritesMeta, request: MemberUpdateRequest) -> Applied:
    """A member's peer addresses."""
    book = _load(batch)
    member = _find(book, request.id)
    _refuse_taken(book, request.id, request.peer_urls)
    del member.peer_urls[:]
    member.peer_urls.extend(request.peer_urls)
    batch.meta_put(META_NAME, book.SerializeToString())
    return _changed(book.members)


def apply_spare(batch: WritesMeta, request: SpareRequest) -> Applied:
    """A spare comes or goes."""
    book = _load(batch)
    members = {member.id: member for member in book.members}
    removed = list(book.removed)
    if request.WhichOneof("change") == "add":
        member = request.add
        if member.id in members or member.id in removed:
            raise MemberExists
        _refuse_taken(book, member.id, member.peer_urls)
        member.learner = member.spare = True
        members[member.id] = member
    else:
        if not _find(book, request.remove).spare:
            raise MemberRefused(f"member {request.remove:x} has become a standby: try again")
        del members[request.remove]
        removed.append(request.remove)
    batch.meta_put(META_NAME, _encode(members.values(), removed))
    return _changed(members.values())


def _refuse_taken(book: Members, member_id: int, peer_urls: Iterable[str]) -> None:
    taken = {url for other in book.members if other.id != member_id for url in other.peer_urls}
    if taken.intersection(peer_urls):
        raise PeerURLExists


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
        (member.id for member in listed if member.learner and not member.spare),
    )
