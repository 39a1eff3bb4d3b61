"""The log and hard state of one member, on disk in one SQLite file (`raft.db`).

`LogStorage` belongs to one thread at a time (the log thread once the node runs). Every method
that changes something is one transaction and returns only when it survives a power cut. The
caller makes sure that one process has the file. Errors are `LogError`, one sentence each; after
one the object is of no more use, because a failed fsync must never be tried again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import apsw

from raft import format as form
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
from raft.interface import Entry, Index, LogError, Term

_FRAME_BYTES: Final = form.PAGE_SIZE + 24


@dataclass(frozen=True, slots=True)
class HardState:
    """What Raft must not forget: the current term, the vote in it, and the commit index."""

    term: Term
    vote: int
    commit_index: Index


class LogStorage:
    """The entries first_index..last_index, and the state row. Make one with `open`."""

    def __init__(self, path: Path, options: LogOptions, db: apsw.Connection) -> None:
        self._path = path
        self._options = options
        self._db = db
        self._state = form.load_state(db, path)
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
        """Open or create the log and check all of it. Raises `LogError`, nothing being changed."""
        options = options or LogOptions()
        db: apsw.Connection | None = None
        try:
            db = connect(path, options)
            if not check_format(db, path):
                create(db, path)
            db.execute(form.CONNECTION).fetchall()
            # A reader may have made the WAL long; once it starts over, the file shrinks again.
            db.pragma("journal_size_limit", 2 * options.wal_bytes_max)
            return cls(path, options, db)
        except apsw.Error as error:
            close_quietly(db)
            raise describe(error, path) from error
        except LogError:
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
        """The cluster the log belongs to; 0 before `set_identity`."""
        return self._state.cluster_id

    @property
    def member_id(self) -> int:
        """The member the log belongs to; 0 before `set_identity`."""
        return self._state.member_id

    @property
    def generation(self) -> int:
        """Which generation of the state machine's file is current."""
        return self._state.generation

    @property
    def hard_state(self) -> HardState:
        """As last saved."""
        return HardState(self._state.term, self._state.vote, self._state.commit_index)

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
    def wal_bytes(self) -> int:
        """About what was written to the WAL since it was last copied whole (an upper estimate)."""
        return self._wal_bytes

    def set_identity(self, cluster_id: int, member_id: int) -> None:
        """Say once whose log this is. Raises `LogError` when it is another's."""
        known = (self.cluster_id, self.member_id)
        if known == (cluster_id, member_id):
            return
        if known != (0, 0):
            raise LogError(
                f"{self._path} belongs to member {known[1]:x} of cluster {known[0]:x},"
                f" not to member {member_id:x} of cluster {cluster_id:x}:"
                " choose another data directory"
            )
        self._save(replace(self._state, cluster_id=cluster_id, member_id=member_id))

    def set_generation(self, generation: int) -> None:
        """Make another generation of the state machine's file the current one."""
        self._save(replace(self._state, generation=generation))

    def save_hard_state(self, hard_state: HardState) -> None:
        """Persist term, vote and commit index."""
        self._save(self._with(hard_state, self._state))

    def append(
        self,
        entries: Sequence[Entry],
        *,
        hard_state: HardState | None = None,
        cut_through: Index | None = None,
    ) -> None:
        """Make entries durable: one transaction, one fsync.

        The first must follow the last, or replaces it and everything behind it (Raft section
        5.3). `hard_state` and a cut of the prefix, `cut_through` included, may ride along.
        """
        first = entries[0].index
        if not self.first_index <= first <= self.last_index + 1:
            raise ValueError(f"entry {first} does not follow {self.last_index}")
        state = self._state if hard_state is None else self._with(hard_state, self._state)
        if cut_through is not None:
            state = self._cut_state(state, cut_through)
        overwrites = first <= self.last_index
        with self._errors():
            if state == self._state and not overwrites and len(entries) <= form.ROWS_PER_INSERT:
                self._insert(entries)
            else:
                with self._db:
                    self._append_steps(entries, state, overwrites=overwrites)
        if overwrites:
            self._forget_from(first)
        self._note_appended(entries)
        self._note_state(state)

    def truncate_from(self, index: Index) -> None:
        """Remove `index` and everything behind it."""
        if index <= self._state.cut_index:
            raise ValueError(f"entry {index} was cut")
        term = self.term_at(Index(index - 1))
        with self._errors():
            self._db.execute(form.CUT_SUFFIX, (index,))
        self._forget_from(index)
        self._last_term = term

    def cut(self, index: Index) -> None:
        """Remove everything up to `index`, which the state machine must hold durably."""
        state = self._cut_state(self._state, index)
        with self._errors(), self._db:
            self._db.execute(form.CUT_PREFIX, (state.cut_index,))
            self._db.execute(form.SAVE_STATE, state.row())
        self._note_state(state)

    def cuttable(self, durable: Index, entries_kept: int, bytes_kept: int, slice_max: int) -> Index:
        """How far one slice of cutting may go; `first_index - 1` when there is nothing to cut.

        Entries not behind `durable` stay, and so do the newest, as many as `entries_kept` and
        `bytes_kept` both allow. Cutting starts a slice (an eighth of the bytes) above these, so
        that most appends do not touch the front of the table.
        """
        index, count, size = self._state.cut_index, len(self._sizes), self._bytes
        if count < entries_kept + slice_max and size < bytes_kept + bytes_kept // 8:
            return index
        stop = min(durable, index + slice_max, self.last_index - 1)
        for entry_bytes in self._sizes:
            if index >= stop or (count <= entries_kept and size <= bytes_kept):
                break
            index, count, size = Index(index + 1), count - 1, size - entry_bytes
        return index

    def term_at(self, index: Index) -> Term:
        """The term of an entry that is in the log, or of the one it was cut behind."""
        if index == self._state.cut_index:
            return self._state.cut_term
        if index == self.last_index:
            return self._last_term
        with self._errors():
            row = self._db.execute(form.TERM_AT, (index,)).fetchone()
        if row is None:
            raise LogError(f"{self._path} has no entry {index}: restore it from a backup")
        return Term(int(row[0]))

    def entries(self, first: Index, last: Index, bytes_max: int) -> list[Entry]:
        """Entries first..last, fewer when they are more than `bytes_max`, but at least one."""
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
        with self._errors():
            self._db.set_busy_timeout(0)
            with suppress(apsw.BusyError):  # another program reads
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._db.close()

    def abandon(self) -> None:
        """Close after an error: nothing more is written."""
        close_quietly(self._db)

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

    def _insert(self, entries: Sequence[Entry]) -> None:
        values: list[int | bytes] = []
        for entry in entries:
            crc = form.entry_crc(entry.index, entry.term, entry.data)
            values += (entry.index, entry.term, crc, entry.data)
        self._db.execute(form.insert_sql(len(entries)), values)

    def _append_steps(self, entries: Sequence[Entry], state: LogState, *, overwrites: bool) -> None:
        if overwrites:
            self._db.execute(form.CUT_SUFFIX, (entries[0].index,))
        for start in range(0, len(entries), form.ROWS_PER_INSERT):
            self._insert(entries[start : start + form.ROWS_PER_INSERT])
        if state.cut_index != self._state.cut_index:
            self._db.execute(form.CUT_PREFIX, (state.cut_index,))
        if state != self._state:
            self._db.execute(form.SAVE_STATE, state.row())

    def _save(self, state: LogState) -> None:
        with self._errors():
            self._db.execute(form.SAVE_STATE, state.row())
        self._note_state(state)

    def _with(self, hard: HardState, state: LogState) -> LogState:
        return replace(state, term=hard.term, vote=hard.vote, commit_index=hard.commit_index)

    def _cut_state(self, state: LogState, index: Index) -> LogState:
        if not state.cut_index <= index <= self.last_index:
            raise ValueError(f"cannot cut at {index}")
        return replace(state, cut_index=index, cut_term=self.term_at(index))

    def _note_state(self, state: LogState) -> None:
        for _ in range(state.cut_index - self._state.cut_index):
            self._bytes -= self._sizes.popleft()
            self._wal_bytes += 32
        self._state = state
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
