"""What `raft.db` looks like on disk: SQL, rows and their checksums.

Only `raft/` reads or writes this file. Everything here is called by the thread that owns the
connection. Two tables: `entries` is the log, one row an entry; `state` is a single row with the
identity of the member, Raft's hard state and the point before which the log was cut.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Final

import apsw

from raft.interface import Entry, EntryKind, Index, LogError, MemberId, Term

FORMAT_VERSION: Final = 2
"""1 had no `kind`: its entries are all NORMAL."""

APPLICATION_ID: Final = 0x6B767266
"""Marks the file as ours in SQLite's header ("kvrf"), so that a foreign database is never used."""

PAGE_SIZE: Final = 4096
"""A commit rewrites the last leaf at least: small pages keep single puts small, and entries of
some hundred bytes to 1 KiB still pack three and more to a page."""

SETUP: Final = f"PRAGMA page_size={PAGE_SIZE}"
"""Before the first table: it cannot be changed on a WAL database that has one.

Without auto_vacuum, which files made before this have, a sixth fewer pages are written: the log's
own pages are used again when it is cut, so there is nothing to give back.
"""

CONNECTION: Final = (
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
    "PRAGMA temp_store=MEMORY"
)
"""FULL makes a commit wait for the WAL's fsync: what is acknowledged survives a power cut."""

CREATE: Final = f"""
CREATE TABLE entries(
  idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL,
  kind INTEGER NOT NULL DEFAULT 0);
CREATE TABLE state(
  id INTEGER PRIMARY KEY CHECK (id = 1),
  cluster_id TEXT NOT NULL, member_id TEXT NOT NULL, generation INTEGER NOT NULL,
  term INTEGER NOT NULL, vote TEXT NOT NULL, commit_index INTEGER NOT NULL,
  cut_index INTEGER NOT NULL, cut_term INTEGER NOT NULL, crc INTEGER NOT NULL);
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={FORMAT_VERSION};
"""

UPGRADE: Final = f"""
ALTER TABLE entries ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version={FORMAT_VERSION};
"""
"""From version 1. No row is rewritten: the sums of NORMAL entries are those of version 1."""

SAVE_STATE: Final = "REPLACE INTO state VALUES (1,?,?,?,?,?,?,?,?,?)"
LOAD_STATE: Final = (
    "SELECT cluster_id, member_id, generation, term, vote, commit_index, cut_index, cut_term, crc"
    " FROM state"
)
ALL_ENTRIES: Final = "SELECT idx, term, crc, data, kind FROM entries ORDER BY idx"
SOME_ENTRIES: Final = (
    "SELECT idx, term, crc, data, kind FROM entries WHERE idx BETWEEN ? AND ? ORDER BY idx"
)
TERM_AT: Final = "SELECT term FROM entries WHERE idx = ?"
CUT_PREFIX: Final = "DELETE FROM entries WHERE idx <= ?"
CUT_SUFFIX: Final = "DELETE FROM entries WHERE idx >= ?"
CUT_ALL: Final = "DELETE FROM entries"

ROWS_PER_INSERT: Final = 64

_KINDS: Final = {kind.value: kind for kind in EntryKind}
_NO_INDEX: Final = Index(0)
_NO_TERM: Final = Term(0)
_NOBODY: Final = MemberId(0)


@cache
def insert_sql(rows: int) -> str:
    """One statement for up to 64 rows.

    A statement on its own is its own transaction, so a batch costs one call into SQLite, and so
    one wait for the interpreter lock, whatever the number of entries.
    """
    return "INSERT INTO entries VALUES " + ",".join(["(?,?,?,?,?)"] * rows)


def entry_crc(index: int, term: int, data: bytes, kind: int) -> int:
    """CRC-32 of an entry, over its index and term too: a row in the wrong place is damage.

    NORMAL, which is 0, does not enter it: version 1 knew no kinds.
    """
    crc = zlib.crc32(data, zlib.crc32(struct.pack(">QQ", index, term)))
    return zlib.crc32(bytes((kind & 0xFF,)), crc) if kind else crc


@dataclass(frozen=True, slots=True)
class LogState:
    """The single row of `state`. Ids are 0 until known; `generation` names the kv file in use."""

    cluster_id: int = 0
    member_id: int = 0
    generation: int = 1
    term: Term = _NO_TERM
    vote: MemberId = _NOBODY
    commit_index: Index = _NO_INDEX
    cut_index: Index = _NO_INDEX
    cut_term: Term = _NO_TERM

    def crc(self) -> int:
        """CRC-32 of all fields."""
        return zlib.crc32(struct.pack(">8Q", *astuple(self)))

    def row(self) -> tuple[int | str, ...]:
        """The columns of SAVE_STATE; ids as hex, which SQLite's signed integers cannot hold."""
        return (
            f"{self.cluster_id:016x}",
            f"{self.member_id:016x}",
            self.generation,
            self.term,
            f"{self.vote:016x}",
            self.commit_index,
            self.cut_index,
            self.cut_term,
            self.crc(),
        )


def load_state(db: apsw.Connection, path: Path) -> LogState:
    """Read the state row and check its sum."""
    row = db.execute(LOAD_STATE).fetchone()
    if row is None:
        raise LogError(f"{path} has no state row: the file is damaged, restore it from a backup")
    cluster, member, generation, term, vote, commit, cut_index, cut_term, crc = row
    state = LogState(
        int(cluster, 16),
        int(member, 16),
        generation,
        Term(term),
        MemberId(int(vote, 16)),
        Index(commit),
        Index(cut_index),
        Term(cut_term),
    )
    if state.crc() != crc:
        raise LogError(f"{path} has a state row with a wrong checksum: restore it from a backup")
    return state


def checked_entry(row: tuple[int, int, int, bytes, int], path: Path) -> Entry:
    """An entry from its row.

    A torn last write never gets this far: SQLite drops the unfinished transaction. A wrong sum
    is therefore damage to something that may have been acknowledged, wherever it is in the log.
    """
    index, term, crc, data, number = row
    if entry_crc(index, term, data, number) != crc:
        raise LogError(
            f"{path} has an entry with a wrong checksum at index {index}: restore it from a backup"
        )
    kind = _KINDS.get(number)
    if kind is None:
        raise LogError(
            f"{path} has an entry of unknown kind at index {index}: start a newer version"
        )
    return Entry(Index(index), Term(term), data, kind)
