"""The store as one file of etcd's, as of one moment, while everything goes on.

All that is small is read in one snapshot, which fixes the revision; the versions up to it follow in
short reads, as HashKV does it: versions do not change any more, and a pin, renewed with each step,
keeps physical compaction away from those that must be in the file. So no long read holds the WAL,
and nothing is copied twice. What the file has of the past is what a finished compaction leaves:
below the compact revision only what is alive there, and the deletions made at it.

One step at a time, on any thread.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, Final

from kvshim.apply.members import members_of, membership_of, removed_of
from kvshim.auth.state import FIRST_REVISION
from kvshim.backend import schema
from kvshim.backend.ids import first_id, last_id, revision_of, sub_of
from kvshim.bbolt.writer import BboltWriter
from kvshim.errors import Compacted
from kvshim.exchange import buckets
from kvshim.mvcc.encoding import encode_tombstone, unframe
from kvshim.mvcc.store import Store
from kvshim.mvcc.view import ReadView
from kvshim.types import Revision

STEP_ROWS: Final = 20_000
STEP_BYTES: Final = 4 << 20
"""Versions looked at, and bytes written, in one read."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """The state that the file is of, with the bucket for which it is too large left out."""

    revision: Revision
    compact_revision: Revision
    before: list[tuple[bytes, buckets.Pairs]]
    behind: list[tuple[bytes, buckets.Pairs]]


class Export:
    """`step` until it says that there is no more; `close` in any case."""

    def __init__(self, store: Store, file: BinaryIO) -> None:
        self._store = store
        self._writer = BboltWriter(file)
        self._moment: _Moment | None = None
        self._after_id = 0
        # One less, since the next compaction takes the deletions made at the compact revision.
        self._pin = store.pins.pin(Revision(store.compact_revision - 1))
        self.bytes_total = 0
        """The file's length, once it is whole."""

    def step(self) -> bool:
        """Write some more; True if there is more to do.

        Raises `Compacted` if versions are gone that must be in the file, `StorageError`, `OSError`.
        """
        self._store.pins.renew(self._pin)
        with self._store.read() as view:
            if self._moment is None:
                self._moment = _look(view)
                self._begin(self._moment)
            moment = self._moment
            _refuse_gone(view, moment.compact_revision)
            pairs = self._next_versions(view, moment)
        if pairs is not None:
            self._writer.add(pairs)
            return True
        for name, content in moment.behind:
            self._writer.begin(name)
            self._writer.add(content)
        self.bytes_total = self._writer.finish()
        return False

    @property
    def revision(self) -> int:
        """Of the moment; 0 before the first step."""
        return 0 if self._moment is None else self._moment.revision

    def close(self) -> None:
        """Let compaction go on."""
        self._store.pins.release(self._pin)

    def _begin(self, moment: _Moment) -> None:
        for name, content in moment.before:
            self._writer.begin(name)
            self._writer.add(content)
        self._writer.begin(buckets.KEY)

    def _next_versions(self, view: ReadView, moment: _Moment) -> list[tuple[bytes, bytes]] | None:
        """Some pairs of the bucket of versions, perhaps none; None behind the last."""
        compact, until = moment.compact_revision, last_id(moment.revision)
        last = view.nth_version(self._after_id, until, STEP_ROWS)
        if last is None:
            return None
        bounds = (first_id(max(compact, 0)), last_id(compact))
        pairs: list[tuple[bytes, bytes]] = []
        size = 0
        with closing(view.exported_versions(bounds, self._after_id, last)) as rows:
            self._after_id = last
            for version_id, deleted_key, pair in rows:
                revision, sub = revision_of(version_id), sub_of(version_id)
                if deleted_key is None:
                    pairs.append((buckets.place(revision, sub), unframe(pair)))
                else:
                    tombstone = encode_tombstone(deleted_key)
                    pairs.append((buckets.deletion_place(revision, sub), tombstone))
                size += len(pair)
                if size >= STEP_BYTES:
                    self._after_id = version_id
                    break
        return pairs


def _refuse_gone(view: ReadView, compact_revision: Revision) -> None:
    """Raise `Compacted` when a later compaction has taken something that belongs into the file."""
    ((*_, target, cursor),) = view.rows(schema.READ_STATE, ())
    if target > compact_revision and cursor > first_id(compact_revision):
        raise Compacted


def _look(view: ReadView) -> _Moment:
    ((revision, compact_revision, index, term, *_),) = view.rows(schema.READ_STATE, ())
    auth = view.auth()
    meta = buckets.meta_pairs(
        index=index,
        term=term,
        compact_revision=compact_revision,
        membership=membership_of(view),
        version=buckets.STORAGE_VERSION,
    )
    before = [
        (buckets.ALARM, buckets.alarm_pairs(view.alarms())),
        (buckets.AUTH, buckets.auth_pairs(auth, FIRST_REVISION)),
        (buckets.AUTH_ROLES, buckets.role_pairs(auth.roles if auth else ())),
        (buckets.AUTH_USERS, buckets.user_pairs(auth.users if auth else ())),
        (buckets.CLUSTER, buckets.cluster_pairs(buckets.STORAGE_VERSION)),
    ]
    behind = [
        (buckets.LEASE, buckets.lease_pairs(view.leases())),
        (buckets.MEMBERS, buckets.member_pairs(members_of(view))),
        (buckets.MEMBERS_REMOVED, buckets.removed_pairs(removed_of(view))),
        (buckets.META, meta),
    ]
    return _Moment(revision, compact_revision, before, behind)
