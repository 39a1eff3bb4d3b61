"""Physical compaction: dead versions leave in slices, between the writer's batches.

Logical compaction to C already hides them. The walk looks at every version from the last finished
compaction up to C, deletes what that version replaced, and deletions below C themselves. One at C
stays, because a watch from C still gets that DELETE; the next walk begins there and takes it.
What is deleted by looking at a version of revision r was visible only below r, so everything that
is readable at R is intact while the walk has not passed R. The cursor is committed with each
slice: a crash resumes. Before the walk, what it will thin out is hashed, as etcd does; a crash
or a compaction that overtook another leaves that hash out, as there. Apply thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from kvshim.backend import schema
from kvshim.backend import statements as sql
from kvshim.backend.backend import Backend
from kvshim.backend.ids import first_id, last_id, revision_of
from kvshim.backend.session import Session
from kvshim.mvcc.hashing import CompactionHashes, HashRun
from kvshim.mvcc.pins import Pins
from kvshim.mvcc.records import KeyValueHash
from kvshim.mvcc.view import ReadView
from kvshim.types import Revision

SLICE_SECONDS: Final = 0.004
"""Time after which a slice ends."""

_ROWS: Final = 32
"""Versions fetched at a time; the clock is looked at in between."""

_HASH_ROWS: Final = 512
_HASH_BYTES: Final = 1 << 20
"""Versions looked at, and bytes hashed, in a slice."""


class Compaction:
    """The walk, its cursor, and the return of free pages to the disk."""

    def __init__(
        self,
        backend: Backend,
        pins: Pins,
        hashes: CompactionHashes,
        *,
        finished: int,
        target: int,
        cursor: int,
    ) -> None:
        self._backend = backend
        self._pins = pins
        self._hashes = hashes
        self._hash_run: HashRun | None = None
        self._hash: KeyValueHash | None = None
        self.finished = Revision(finished)
        self._target = Revision(target)
        self._cursor = cursor
        self.newest: tuple[Revision, Revision] | None = None
        self.on_finished: Callable[[Revision], None] | None = None

    def run_slice(self, revision: Revision, compact_revision: Revision) -> bool:
        """Work for a few milliseconds; True if there is more that can be done now."""
        begins = self._target <= self.finished < compact_revision
        if begins or self._hash_run is not None:
            self._backend.settle()  # Or another thread might, while this one reads with it.
            view = ReadView(self._backend.writer, revision, compact_revision, None)
            if begins:
                self._begin(view)
            if self._hash_run is not None:
                self._hash_slice(view, self._hash_run)
                return True
        if self._target > self.finished and self._walk_slice():
            return True
        return self._backend.has_space_to_return() and self._return_space()

    def _return_space(self) -> bool:
        """True if it did some good and there is more: a file that cannot shrink is left alone."""
        free_before = self._backend.sizes().free_bytes
        self._in_transaction(lambda _: self._backend.return_space())
        shrank = self._backend.sizes().free_bytes < free_before
        return shrank and self._backend.has_space_to_return()

    def _begin(self, view: ReadView) -> None:
        self._target = view.compact_revision
        # Deletions at the last finished revision itself are still there: begin with them.
        self._cursor = first_id(max(self.finished, 0))
        self._hash = None
        if self.newest == (self.finished, self._target):
            self._hash_run = HashRun.of_compaction(view, self.finished, self._target)

    def _hash_slice(self, view: ReadView, run: HashRun) -> None:
        run.step(view, _HASH_ROWS, _HASH_BYTES)
        if run.finished:
            self._hash = run.result()
            self._hash_run = None

    def _walk_slice(self) -> bool:
        """True unless a pin blocks the walk or it has just ended with nothing left to do."""
        pinned = self._pins.oldest()
        limit = self._target if pinned is None else min(self._target, pinned)
        if self._cursor > last_id(limit):
            return False
        cursor, target = self._cursor, self._target
        finished = False

        def walk(session: Session) -> None:
            nonlocal cursor, finished
            cursor = self._walk(session, cursor, last_id(limit))
            finished = cursor > last_id(target)
            state = (target if finished else self.finished, target, cursor)
            session.run(schema.WRITE_COMPACTION, state)

        self._in_transaction(walk)
        self._cursor = cursor
        if finished:
            self.finished = target
            if self._hash is not None:
                self._hashes.add(self._hash)
                self._hash = None
            if self.on_finished is not None:
                self.on_finished(target)
        return True

    def _walk(self, session: Session, cursor: int, last: int) -> int:
        """Look at versions until the time is up; returns the first id not looked at."""
        deadline = time.perf_counter() + SLICE_SECONDS
        while True:
            rows = session.all(sql.COMPACTION_ROWS, (cursor, last, _ROWS))
            for version_id, create_id, deleted, key in rows:
                session.run(sql.DELETE_REPLACED, (create_id, version_id))
                if deleted and revision_of(version_id) < self._target:
                    session.run(sql.DELETE_VERSION, (version_id,))
                    session.run(sql.DELETE_ENDED, (key, create_id))
            if len(rows) < _ROWS:
                return last + 1
            cursor = rows[-1][0] + 1
            if time.perf_counter() >= deadline:
                return cursor

    def _in_transaction(self, work: Callable[[Session], None]) -> None:
        session = self._backend.begin_write()
        try:
            work(session)
        except BaseException:
            self._backend.rollback()
            raise
        self._backend.commit_upkeep()
