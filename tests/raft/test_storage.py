"""The log on disk: what is appended stays, what is damaged or foreign is refused untouched."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import apsw
import pytest

from raft.interface import Entry, Index, LogError, Term
from raft.storage import HardState, LogStorage


def entries(first: int, last: int, term: int = 1, size: int = 100) -> list[Entry]:
    return [
        Entry(Index(index), Term(term), bytes([index % 256]) * size)
        for index in range(first, last + 1)
    ]


def read_all(storage: LogStorage) -> list[Entry]:
    if storage.last_index < storage.first_index:
        return []
    return storage.entries(storage.first_index, storage.last_index, 1 << 30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "raft.db"


def files(path: Path) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes() for file in path.parent.iterdir() if "-shm" not in file.name
    }


def test_a_new_log_is_empty(path: Path) -> None:
    storage = LogStorage.open(path)

    assert (storage.first_index, storage.last_index, storage.last_term) == (1, 0, 0)
    assert (storage.cluster_id, storage.member_id, storage.generation) == (0, 0, 1)
    assert storage.hard_state == HardState(Term(0), 0, Index(0))
    storage.close()
    with apsw.Connection(str(path)) as db:
        assert (db.pragma("page_size"), db.pragma("auto_vacuum")) == (4096, 2)


def test_commits_wait_for_the_disk_and_never_checkpoint(path: Path) -> None:
    storage = LogStorage.open(path)

    assert storage._db.pragma("synchronous") == 2  # FULL
    assert storage._db.pragma("journal_mode") == "wal"
    assert storage._db.pragma("wal_autocheckpoint") == 0


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_what_was_appended_is_there_after_a_crash_of_the_process(path: Path, count: int) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, count))
    storage.abandon()

    again = LogStorage.open(path)

    assert read_all(again) == entries(1, count)
    assert (again.first_index, again.last_index, again.last_term) == (1, count, 1)


def test_state_survives_reopening_with_ids_of_64_bits(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.set_identity(2**64 - 1, 2**63 + 5)
    storage.save_hard_state(HardState(Term(7), 2**63 + 5, Index(0)))
    storage.set_generation(3)
    storage.close()

    again = LogStorage.open(path)

    assert (again.cluster_id, again.member_id, again.generation) == (2**64 - 1, 2**63 + 5, 3)
    assert again.hard_state == HardState(Term(7), 2**63 + 5, Index(0))


def test_hard_state_and_cut_ride_along_with_an_append(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 100))
    storage.append(
        entries(101, 110, term=4),
        hard_state=HardState(Term(4), 9, Index(100)),
        cut_through=Index(60),
    )
    storage.abandon()

    again = LogStorage.open(path)

    assert (again.first_index, again.last_index) == (61, 110)
    assert again.term_at(Index(60)) == 1
    assert again.hard_state == HardState(Term(4), 9, Index(100))
    assert read_all(again) == entries(61, 100) + entries(101, 110, term=4)


def test_a_log_that_was_cut_whole_still_knows_where_it_ends(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 10, term=3))
    storage.cut(Index(10))
    storage.close()

    again = LogStorage.open(path)

    assert (again.first_index, again.last_index, again.last_term) == (11, 10, 3)
    again.append(entries(11, 11, term=3))
    assert read_all(again) == entries(11, 11, term=3)


def test_a_newer_term_replaces_the_tail(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 10))
    storage.append(entries(6, 7, term=2))
    storage.truncate_from(Index(7))

    assert (storage.last_index, storage.last_term) == (6, 2)
    storage.close()
    assert read_all(LogStorage.open(path)) == entries(1, 5) + entries(6, 6, term=2)


def test_reading_is_bounded_by_bytes_but_gives_one_entry_at_least(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 10, size=1000))

    assert storage.entries(Index(3), Index(9), 2500) == entries(3, 4, size=1000)
    assert storage.entries(Index(3), Index(9), 10) == entries(3, 3, size=1000)


def test_an_append_that_leaves_a_hole_is_refused(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 3))

    with pytest.raises(ValueError, match="entry 5 does not follow 3"):
        storage.append(entries(5, 5))


def test_cutting_stops_at_the_durable_index_and_keeps_the_newest(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 100))

    assert storage.cuttable(Index(100), entries_kept=50, bytes_kept=1 << 20, slice_max=20) == 20
    assert storage.cuttable(Index(7), entries_kept=50, bytes_kept=1 << 20, slice_max=20) == 7
    assert storage.cuttable(Index(100), entries_kept=90, bytes_kept=1 << 20, slice_max=20) == 0
    assert storage.cuttable(Index(100), entries_kept=85, bytes_kept=1 << 20, slice_max=15) == 15
    assert storage.cuttable(Index(100), entries_kept=99, bytes_kept=4_000, slice_max=500) == 60
    assert storage.cuttable(Index(100), entries_kept=0, bytes_kept=0, slice_max=500) == 99


def test_a_wal_that_lost_its_tail_is_a_shorter_log(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.checkpoint()
    for index in range(1, 11):
        storage.append(entries(index, index))
    storage.abandon()
    wal = path.with_name("raft.db-wal")
    torn = wal.read_bytes()[:-1000]
    wal.write_bytes(torn)

    again = LogStorage.open(path)

    assert read_all(again) == entries(1, 9)


def test_a_log_copied_from_its_wal_reads_the_same(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 500, size=600))
    assert storage.wal_bytes > 300_000

    assert storage.checkpoint()

    assert storage.wal_bytes == 0
    storage.append(entries(501, 510, size=600))
    storage.abandon()
    assert read_all(LogStorage.open(path)) == entries(1, 510, size=600)


def tampered(path: Path, sql: str) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 10))
    storage.close()
    with sqlite3.connect(path) as db:
        db.execute(sql)
        db.commit()
    db.close()


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("UPDATE entries SET data = x'00' WHERE idx = 4", "wrong checksum at index 4"),
        ("UPDATE entries SET data = x'00' WHERE idx = 10", "wrong checksum at index 10"),
        ("UPDATE entries SET term = 2 WHERE idx = 10", "wrong checksum at index 10"),
        ("DELETE FROM entries WHERE idx = 4", "has entry 5 where 4 belongs"),
        ("DELETE FROM entries WHERE idx < 4", "has entry 4 where 1 belongs"),
        ("UPDATE state SET term = 9", "state row with a wrong checksum"),
        ("DELETE FROM state", "has no state row"),
        ("PRAGMA user_version = 2", "has format 2, this program knows formats up to 1"),
        ("PRAGMA application_id = 5", "a database of another program"),
    ],
)
def test_damage_and_foreign_files_are_refused_untouched(
    path: Path, sql: str, sentence: str
) -> None:
    tampered(path, sql)
    before = files(path)

    with pytest.raises(LogError, match=sentence) as caught:
        LogStorage.open(path)

    assert "\n" not in str(caught.value)
    after = files(path)
    assert after["raft.db"] == before["raft.db"]
    assert not after.get("raft.db-wal")


@pytest.mark.parametrize("offset", [0, 5, 17])
def test_a_flipped_header_is_refused_untouched(path: Path, offset: int) -> None:
    tampered(path, "PRAGMA user_version = 1")
    damaged = bytearray(path.read_bytes())
    damaged[offset] ^= 0xFF
    path.write_bytes(damaged)

    with pytest.raises(LogError, match="damaged"):
        LogStorage.open(path)

    assert path.read_bytes() == damaged


def test_a_file_that_is_no_database_is_refused_untouched(path: Path) -> None:
    path.write_bytes(b"a diary\n" * 1000)

    with pytest.raises(LogError, match="not a raft log"):
        LogStorage.open(path)

    assert path.read_bytes() == b"a diary\n" * 1000


def test_identity_is_said_once(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.set_identity(1, 2)
    storage.set_identity(1, 2)

    with pytest.raises(LogError, match="belongs to member 2 of cluster 1, not to member 3"):
        storage.set_identity(1, 3)


def test_a_directory_in_its_place_is_one_sentence(path: Path) -> None:
    path.mkdir()

    with pytest.raises(LogError, match="cannot open"):
        LogStorage.open(path)
