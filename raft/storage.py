"""The log and hard state of one member, on disk in one SQLite file (`raft.db`).

`LogStorage` belongs to one thread at a time (the raft thread once the node runs), which also lets
the core read it as its `LogView`. Every method that changes something is one transaction and
returns only when it survives a power cut; only a commit index that moved alone may stay behind
(see `write`). The caller makes sure that one process has the file. Errors are `LogError`, one
sentence each; after one the object is of no more use, because a failed fsync must never be tried
again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

import apsw

from raft import format as form
from raft.batch import Batch, merged
from raft.core.ready import Ready
from raft.core.types import Compacted, HardState
from raft.database import (
    LogOptions,
    check_format,
    close_quietly,
    connect,
    create,
    describe,
    passive_checkpoint,
)
from raft.format import LogState
from raft.interface import Entry, Index, LogError, MemberId, Term

__all__ = ["HardState", "LogStorage"]

_FRAME_BYTES: Final = form.PAGE_SIZE + 24


class LogStorage:
    """The entries first_index..last_index, and the state row. Make one with `open`."""

    def __init__(self, path: Path, options: LogOptions, db: apsw.Connection) -> None:
        self._path = path
        self._options = options
        self._db = db
        self.on_write: Callable[[float], None] = lambda _: None
        """Gets the seconds of every transaction of `write`, fsync included."""
        self._state = form.load_state(db, path)
        self._commit = self._state.commit_index  # may be ahead of the file, see `write`
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._wal_bytes = 0
        self._last_term = self._state.cut_term
        for entry in self._scan():
            self._sizes.append(len(entry.data))
            self._bytes += len(entry.data)
            self._last_term = entry.term

    @classmethod
    def open(cls, path: Path, options: LogOptions | None = None) -> Self:
        """Open or create the log and check all of it. Raises `LogError`, nothing being changed.

        What it shows afterwards survives a power cut, even what an earlier process wrote and was
        killed before its fsync: a member may tell others at once that it holds these entries.
        """
        options = options or LogOptions()
        db: apsw.Connection | None = None
        try:
            db = connect(path, options)
            version = check_format(db, path)
            if version == 0:
                create(db, path)
            db.execute(form.CONNECTION).fetchall()
            with db:  # an older log that is damaged stays as it is
                if 0 < version < form.FORMAT_VERSION:
                    db.execute(form.UPGRADE).fetchall()
                storage = cls(path, options, db)
            # A reader may have made the WAL long; once it starts over, the file shrinks again.
            db.pragma("journal_size_limit", 2 * options.wal_bytes_max)
            storage._sync_inherited()
            return storage
        except apsw.Error as error:
            close_quietly(db)
            raise describe(error, path) from error
        except BaseException:
            close_quietly(db)
            raise

    @property
    def path(self) -> Path:
        """Where the log is."""
        return self._path

    @property
    def options(self) -> LogOptions:
        """How it was opened."""
        return self._options

    @property
    def cluster_id(self) -> int:
        """The cluster the log belongs to; 0 before `set_identity` or `bootstrap`."""
        return self._state.cluster_id

    @property
    def member_id(self) -> int:
        """The member the log belongs to; 0 before `set_identity` or `bootstrap`."""
        return self._state.member_id

    @property
    def generation(self) -> int:
        """Which generation of the state machine's file is current."""
        return self._state.generation

    @property
    def hard_state(self) -> HardState:
        """As last given; the commit index on disk may be lower, see `write`."""
        return HardState(self._state.term, self._state.vote, self._commit)

    @property
    def first_index(self) -> Index:
        """The oldest entry that was not cut; last_index + 1 when there is none."""
        return Index(self._state.cut_index + 1)

    @property
    def last_index(self) -> Index:
        """The newest entry; that of the cut when there is none."""
        return Index(self._state.cut_index + len(self._sizes))

    @property
    def last_term(self) -> Term:
        """The term of the newest entry."""
        return self._last_term

    @property
    def entries_bytes(self) -> int:
        """Bytes of the commands in all entries that were not cut."""
        return self._bytes

    @property
    def wal_bytes(self) -> int:
        """About what was written to the WAL since it was last copied whole (an upper estimate)."""
        return self._wal_bytes

    def set_identity(self, cluster_id: int, member_id: int) -> None:
        """Say once whose log this is. Raises `LogError` when it is another's."""
        if not self._belongs_to(cluster_id, member_id):
            self._save(replace(self._known, cluster_id=cluster_id, member_id=member_id))

    def bootstrap(
        self, cluster_id: int, member_id: int, *, cut_index: Index, cut_term: Term, term: Term
    ) -> None:
        """Begin the log of a new cluster: all up to `cut_index` is committed, and in the store.

        Every member of a new cluster begins with the same cut. Raises `LogError`, nothing being
        changed, when the log is another's or not new.
        """
        self._belongs_to(cluster_id, member_id)
        if self.last_index > 0 or self._state.term > 0:
            raise LogError(f"{self._path} holds a log already: a new cluster needs a new one")
        state = replace(
            self._state,
            cluster_id=cluster_id,
            member_id=member_id,
            term=term,
            commit_index=cut_index,
            cut_index=cut_index,
            cut_term=cut_term,
        )
        self._save(state)
        self._last_term = cut_term

    def begin_anew(self, cluster_id: int, *, generation: int) -> None:
        """Make this the log of another cluster, in one transaction and in a term of its own.

        All that it held is taken for committed and is in that generation of the state machine's
        file, durably: the log begins empty behind it. For the sole survivor of a lost majority.
        """
        last = self.last_index
        state = replace(
            self._known,
            cluster_id=cluster_id,
            generation=generation,
            term=Term(self._state.term + 1),
            vote=MemberId(0),
            commit_index=last,
            cut_index=last,
            cut_term=self._last_term,
        )
        with self._errors(), self._db:
            self._db.execute(form.CUT_ALL)
            self._db.execute(form.SAVE_STATE, state.row())
        self._sizes.clear()
        self._bytes = 0
        self._note_state(state)

    def set_generation(self, generation: int) -> None:
        """Make another generation of the state machine's file the current one."""
        self._save(replace(self._known, generation=generation))

    def save_hard_state(self, hard_state: HardState) -> None:
        """Persist term, vote and commit index."""
        term, vote, commit = hard_state.term, hard_state.vote, hard_state.commit
        self._save(replace(self._state, term=term, vote=vote, commit_index=commit))

    def write(
        self,
        readies: Sequence[Ready],
        *,
        cut_through: Index | None = None,
        generation: int | None = None,
    ) -> None:
        """Persist what these Readies want written: one transaction, one fsync.

        They come in the order of their numbers. A snapshot among them empties the log, which
        begins anew behind it, and makes `generation` the current one of the state machine's file;
        `generation` is given exactly then. Entries replace everything from the first one's index
        on (paper 5.3). A cut of the prefix, `cut_through` included, may ride along.

        A commit index that moved alone (`must_sync` is False) costs no write of its own, and a
        batch of ordinary entries stays one statement: it is written with the next term, vote,
        cut, snapshot or change of members, or by `close`. Lost in a crash, it is as if the member
        had not heard of it yet; a change of members is never written without it
        (`raft.core.membership`). Raises `ValueError` when the Readies do not fit the log.
        """
        self._write(merged(readies), cut_through, generation)

    def append(
        self,
        entries: Sequence[Entry],
        *,
        hard_state: HardState | None = None,
        cut_through: Index | None = None,
    ) -> None:
        """`write`, for entries that come from no Ready."""
        self._write(Batch(None, list(entries), hard_state), cut_through, None)

    def cut(self, index: Index) -> None:
        """Remove everything up to `index`, which the state machine must hold durably."""
        state = self._cut_state(self._known, index)
        with self._errors(), self._db:
            self._db.execute(form.CUT_PREFIX, (state.cut_index,))
            self._db.execute(form.SAVE_STATE, state.row())
        self._note_cut(state.cut_index)
        self._note_state(state)

    def is_long(self, entries_kept: int, bytes_kept: int, slice_max: int) -> bool:
        """Is there a whole slice to cut, or an eighth of the bytes, beyond what is to be kept?"""
        many = len(self._sizes) >= entries_kept + slice_max
        return many or self._bytes >= bytes_kept + bytes_kept // 8

    def cuttable(self, durable: Index, entries_kept: int, bytes_kept: int, slice_max: int) -> Index:
        """How far one slice of cutting may go; `first_index - 1` when there is nothing to cut.

        Entries not behind `durable` stay, and so do the newest, as many as `entries_kept` and
        `bytes_kept` both allow. Cutting starts a slice (an eighth of the bytes) above these, so
        that most appends do not touch the front of the table.
        """
        index, count, size = self._state.cut_index, len(self._sizes), self._bytes
        if not self.is_long(entries_kept, bytes_kept, slice_max):
            return index
        stop = min(durable, index + slice_max, self.last_index - 1)
        for entry_bytes in self._sizes:
            if index >= stop or (count <= entries_kept and size <= bytes_kept):
                break
            index, count, size = Index(index + 1), count - 1, size - entry_bytes
        return index

    def term_at(self, index: Index) -> Term:
        """The term of an entry that is in the log, or of the one it was cut behind.

        Raises `Compacted` for what was cut.
        """
        if index == self._state.cut_index:
            return self._state.cut_term
        if index < self._state.cut_index:
            raise Compacted(f"entry {index} was cut")
        if index == self.last_index:
            return self._last_term
        with self._errors():
            row = self._db.execute(form.TERM_AT, (index,)).fetchone()
        if row is None:
            raise LogError(f"{self._path} has no entry {index}: restore it from a backup")
        return Term(int(row[0]))

    def entries(self, first: Index, last: Index, bytes_max: int) -> list[Entry]:
        """Entries first..last, fewer when they are more than `bytes_max`, but at least one.

        Raises `Compacted` when the first was cut.
        """
        if first <= self._state.cut_index:
            raise Compacted(f"entry {first} was cut")
        found: list[Entry] = []
        size = 0
        with self._errors():
            for row in self._db.execute(form.SOME_ENTRIES, (first, last)):
                entry = form.checked_entry(row, self._path)
                size += len(entry.data)
                if found and size > bytes_max:
                    break
                found.append(entry)
        return found

    def checkpoint(self) -> bool:
        """Copy the WAL into the file; True when all of it was, so that the next write reuses it."""
        with self._errors():
            complete = passive_checkpoint(self._db)
        if complete:
            self._wal_bytes = 0
        return complete

    def close(self) -> None:
        """Leave one tidy file behind. Not needed for durability."""
        if self._commit != self._state.commit_index:
            self._save(self._known)
        with self._errors():
            self._db.set_busy_timeout(0)
            with suppress(apsw.BusyError):  # another program reads
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._db.close()

    def abandon(self) -> None:
        """Close after an error: nothing more is written."""
        close_quietly(self._db)

    def _sync_inherited(self) -> None:
        """The fsync of any write covers all that is in the WAL; an empty one stays untouched."""
        wal = Path(f"{self._path}-wal")
        if wal.exists() and wal.stat().st_size > 0:
            self._save(self._state)

    def _scan(self) -> Iterator[Entry]:
        """Every entry, its sum and place checked."""
        index, term = int(self._state.cut_index), int(self._state.cut_term)
        for row in self._db.execute(form.ALL_ENTRIES):
            entry = form.checked_entry(row, self._path)
            index += 1
            if entry.index != index:
                raise LogError(
                    f"{self._path} has entry {entry.index} where {index} belongs:"
                    " restore it from a backup"
                )
            if entry.term < term:
                raise LogError(
                    f"{self._path} goes back from term {term} to {entry.term} at entry {index}:"
                    " restore it from a backup"
                )
            term = entry.term
            yield entry

    @property
    def _known(self) -> LogState:
        """The state row with the commit index that may be ahead of it."""
        if self._commit == self._state.commit_index:
            return self._state
        return replace(self._state, commit_index=self._commit)

    def _belongs_to(self, cluster_id: int, member_id: int) -> bool:
        """False when it is nobody's yet."""
        known = (self.cluster_id, self.member_id)
        if known == (0, 0):
            return False
        if known != (cluster_id, member_id):
            raise LogError(
                f"{self._path} belongs to member {known[1]:x} of cluster {known[0]:x},"
                f" not to member {member_id:x} of cluster {cluster_id:x}:"
                " choose another data directory"
            )
        return True

    def _write(self, batch: Batch, cut_through: Index | None, generation: int | None) -> None:
        entries, snapshot = batch.entries, batch.snapshot
        if (snapshot is None) is not (generation is None):
            raise ValueError("a snapshot and its generation come together")
        commit = self._commit if batch.hard_state is None else batch.hard_state.commit
        if snapshot is not None:
            commit = max(commit, snapshot.index)
        state = self._state_after(batch, cut_through, generation)
        saves = state is not self._state or batch.changes_members
        if not saves and not entries:
            self._commit = commit
            return
        if saves:
            state = replace(state, commit_index=commit)
        truncates = snapshot is None and bool(entries) and entries[0].index <= self.last_index
        began = time.perf_counter()
        try:
            if saves or truncates or len(entries) > form.ROWS_PER_INSERT:
                with self._db:
                    self._write_steps(batch, state, saves=saves, truncates=truncates)
            else:
                self._insert(entries)
        except apsw.Error as error:
            raise describe(error, self._path) from error
        self.on_write(time.perf_counter() - began)
        self._note_written(batch, state, saves=saves, truncates=truncates)
        self._commit = commit

    def _state_after(
        self, batch: Batch, cut_through: Index | None, generation: int | None
    ) -> LogState:
        """The state row after this batch; the very one of now when only the commit index moves."""
        state = self._state
        hard, snapshot, entries = batch.hard_state, batch.snapshot, batch.entries
        if hard is not None and (hard.term != state.term or hard.vote != state.vote):
            state = replace(state, term=hard.term, vote=hard.vote)
        if snapshot is not None and generation is not None:
            cut_index, cut_term = snapshot.index, snapshot.term
            state = replace(state, generation=generation, cut_index=cut_index, cut_term=cut_term)
        if entries:
            last = self.last_index if snapshot is None else snapshot.index
            if not state.cut_index < entries[0].index <= last + 1:
                raise ValueError(f"entry {entries[0].index} does not follow {last}")
        if cut_through is not None:
            state = self._cut_state(state, cut_through, entries)
        return state

    def _write_steps(self, batch: Batch, state: LogState, *, saves: bool, truncates: bool) -> None:
        if batch.snapshot is not None:
            self._db.execute(form.CUT_ALL)
        elif truncates:
            self._db.execute(form.CUT_SUFFIX, (batch.entries[0].index,))
        for start in range(0, len(batch.entries), form.ROWS_PER_INSERT):
            self._insert(batch.entries[start : start + form.ROWS_PER_INSERT])
        if state.cut_index != self._state.cut_index:
            self._db.execute(form.CUT_PREFIX, (state.cut_index,))
        if saves:
            self._db.execute(form.SAVE_STATE, state.row())

    def _note_written(self, batch: Batch, state: LogState, *, saves: bool, truncates: bool) -> None:
        if batch.snapshot is not None:
            self._sizes.clear()
            self._bytes = 0
            self._state = replace(self._state, cut_index=batch.snapshot.index)
            self._last_term = batch.snapshot.term
        if truncates:
            self._forget_from(batch.entries[0].index)
        if batch.entries:
            self._note_appended(batch.entries)
        self._note_cut(state.cut_index)
        if saves:
            self._note_state(state)

    def _insert(self, entries: Sequence[Entry]) -> None:
        values: list[int | bytes] = []
        for entry in entries:
            crc = form.entry_crc(entry.index, entry.term, entry.data, entry.kind)
            values += (entry.index, entry.term, crc, entry.data, int(entry.kind))
        self._db.execute(form.insert_sql(len(entries)), values)

    def _save(self, state: LogState) -> None:
        with self._errors():
            self._db.execute(form.SAVE_STATE, state.row())
        self._note_state(state)

    def _cut_state(self, state: LogState, index: Index, entries: Sequence[Entry] = ()) -> LogState:
        """`state`, cut at `index`, which may be one of the `entries` about to be written."""
        last = entries[-1].index if entries else self.last_index
        if not state.cut_index <= index <= last:
            raise ValueError(f"cannot cut at {index}")
        if index == state.cut_index:
            return state
        if entries and index >= entries[0].index:
            term = entries[index - entries[0].index].term
        else:
            term = self.term_at(index)
        return replace(state, cut_index=index, cut_term=term)

    def _note_cut(self, index: Index) -> None:
        cut = index - self._state.cut_index
        if not cut:
            return
        for _ in range(cut):
            self._bytes -= self._sizes.popleft()
        self._wal_bytes += 32 * cut
        self._state = replace(self._state, cut_index=index)

    def _note_state(self, state: LogState) -> None:
        self._state = state
        self._commit = state.commit_index
        self._wal_bytes += _FRAME_BYTES

    def _note_appended(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            size = len(entry.data)
            self._sizes.append(size)
            self._bytes += size
            self._wal_bytes += size + size // 4 + 32
        self._wal_bytes += 2 * _FRAME_BYTES
        self._last_term = entries[-1].term

    def _forget_from(self, index: Index) -> None:
        while self.last_index >= index:
            self._bytes -= self._sizes.pop()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise describe(error, self._path) from error
