"""Fills a fresh store from elsewhere: a file of etcd's, or the present keys of another server.

Row by row, in transactions of bounded size, so memory does not depend on how much there is. What is
taken over keeps its revisions. The calling thread is the store's only user; `tell` is called often
with how many keys or versions have come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from kvshim.apply.versions import AUTH_VERSION
from kvshim.auth.state import FIRST_REVISION
from kvshim.backend import statements as sql
from kvshim.bbolt.reader import BboltFile
from kvshim.exchange import buckets
from kvshim.exchange.buckets import BadContent
from kvshim.mvcc.loading import Loader
from kvshim.mvcc.records import LeaseRecord
from kvshim.mvcc.store import Store, WriteBatch
from kvshim.pb.etcd import kv_pb2
from kvshim.pb.etcd.auth_pb2 import Role, User
from kvshim.pb.etcd.lease_pb2 import Lease
from kvshim.types import KeyRange, KeyValue, LeaseID, Revision

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)

Tell = Callable[[int], None]

BATCH_ROWS: Final = 2000
"""Versions in one transaction: of 1 KiB, two MiB of WAL."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a store was filled with, and where it stands."""

    keys: int
    versions: int
    leases: int
    users: int
    roles: int
    auth_enabled: bool
    revision: Revision
    compact_revision: Revision


def load_etcd_file(file: BboltFile, store: Store, tell: Tell) -> None:
    """All that is in a snapshot or a store of etcd's, but for members and alarms.

    Raises `BadContent`, `BadBboltFile`, `StorageError`.
    """
    meta = dict(file.bucket(buckets.META))
    if buckets.CONSISTENT_INDEX not in meta:
        raise BadContent("it is a bbolt file, and not one of etcd's: it has no consistent_index")
    with store.write() as batch:
        _load_auth(file, batch)
    for leases in _batches(file.bucket(buckets.LEASE)):
        with store.write() as batch:
            for _, value in leases:
                lease = _parsed(Lease, value, "a lease")
                batch.lease_put(LeaseRecord(LeaseID(lease.ID), lease.TTL, lease.RemainingTTL))
    done = 0
    for versions in _batches(file.bucket(buckets.KEY)):
        with store.write() as batch:
            loader = Loader(batch)
            for place, value in versions:
                _load_version(loader, batch, place, value)
        done += len(versions)
        tell(done)
    with store.write() as batch:
        compacted = _compact_revision(meta)
        if compacted > batch.revision:  # all that was changed up to there is deleted and gone
            batch.advance(compacted)
        if compacted > batch.compact_revision:
            batch.compact(compacted)


def load_present(
    versions: Iterable[KeyValue], revision: Revision, store: Store, tell: Tell
) -> None:
    """The present keys of a server at a revision; nothing is readable before it.

    A lease is taken for what it is in kine, whose id is its time to live in seconds.
    """
    done = 0
    for some in _batches(versions):
        with store.write() as batch:
            loader = Loader(batch)
            for version in some:
                loader.put_present(version)
                lease = version.lease
                if lease and batch.lease(lease) is None:
                    batch.lease_put(LeaseRecord(lease, lease))
        done += len(some)
        tell(done)
    with store.write() as batch:
        if batch.revision > revision:
            raise BadContent(f"a key is newer than the revision {revision} that it was read at")
        batch.advance(revision)
        batch.compact(revision)


def summary(store: Store) -> Loaded:
    """Look at what there is now."""
    with store.read() as view:
        auth = view.auth()
        ((versions,),) = view.rows(sql.COUNT_VERSIONS, ())
        return Loaded(
            keys=view.count(KeyRange(b"", None)),
            versions=versions,
            leases=len(view.leases()),
            users=len(auth.users) if auth else 0,
            roles=len(auth.roles) if auth else 0,
            auth_enabled=auth is not None and auth.enabled,
            revision=view.revision,
            compact_revision=view.compact_revision,
        )


def _load_version(loader: Loader, batch: WriteBatch, place: bytes, value: bytes) -> None:
    revision, sub, deleted = buckets.parse_place(place)
    pair = _parsed(kv_pb2.KeyValue, value, "a version")
    if not pair.key:  # etcdutl's mark of a revision that was skipped
        batch.advance(Revision(max(revision, batch.revision)))
    elif deleted:
        loader.delete(Revision(revision), sub, pair.key)
    elif pair.mod_revision != revision:
        raise BadContent(
            f"the version at revision {revision} says that it is of {pair.mod_revision}"
        )
    else:
        version = KeyValue(
            pair.key,
            pair.value,
            Revision(pair.create_revision),
            Revision(pair.mod_revision),
            pair.version,
            LeaseID(pair.lease),
            sub,
        )
        loader.put(version)


def _load_auth(file: BboltFile, batch: WriteBatch) -> None:
    auth = dict(file.bucket(buckets.AUTH))
    enabled = auth.get(buckets.AUTH_ENABLED) == b"\x01"
    revision = buckets.parse_number(auth.get(buckets.AUTH_REVISION))
    users = [
        (_parsed(User, value, "a user"), value) for _, value in file.bucket(buckets.AUTH_USERS)
    ]
    roles = [
        (_parsed(Role, value, "a role"), value) for _, value in file.bucket(buckets.AUTH_ROLES)
    ]
    if not (enabled or users or roles or revision > FIRST_REVISION):
        return
    batch.raise_format(AUTH_VERSION)
    batch.auth_put(enabled, max(revision, FIRST_REVISION))
    for user, value in users:
        batch.auth_user_put(user.name.decode(), value)
    for role, value in roles:
        batch.auth_role_put(role.name.decode(), value)


def _compact_revision(meta: dict[bytes, bytes]) -> Revision:
    """Scheduled counts as finished: to clients it always was."""
    places = (meta.get(buckets.SCHEDULED_COMPACTION), meta.get(buckets.FINISHED_COMPACTION))
    found = [buckets.parse_place(place)[0] for place in places if place is not None]
    return Revision(max(found, default=-1))


def _parsed(kind: type[_M], value: bytes, what: str) -> _M:
    try:
        return kind.FromString(value)
    except DecodeError:
        raise BadContent(f"{what} in the file cannot be read: {value[:32]!r}") from None


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    left = iter(items)
    while some := list(islice(left, BATCH_ROWS)):
        yield some
