"""The log on disk: what is appended stays, what is damaged or foreign is refused untouched."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from raft.core.log import LogView
from raft.core.ready import Ready
from raft.core.types import Compacted, HardState, Role
from raft.interface import (
    Entry,
    EntryKind,
    Index,
    LogError,
    MemberId,
    Membership,
    SnapshotMeta,
    Term,
)
from raft.storage import LogStorage


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
    assert storage.hard_state == HardState()
    storage.close()
    with apsw.Connection(str(path)) as db:
        assert (db.pragma("page_size"), db.pragma("auto_vacuum")) == (4096, 0)


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
    storage.save_hard_state(HardState(Term(7), MemberId(2**63 + 5), Index(0)))
    storage.set_generation(3)
    storage.close()

    again = LogStorage.open(path)

    assert (again.cluster_id, again.member_id, again.generation) == (2**64 - 1, 2**63 + 5, 3)
    assert again.hard_state == HardState(Term(7), MemberId(2**63 + 5), Index(0))


def test_hard_state_and_cut_ride_along_with_an_append(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 100))
    storage.append(
        entries(101, 110, term=4),
        hard_state=HardState(Term(4), MemberId(9), Index(100)),
        cut_through=Index(60),
    )
    storage.abandon()

    again = LogStorage.open(path)

    assert (again.first_index, again.last_index) == (61, 110)
    assert again.term_at(Index(60)) == 1
    assert again.hard_state == HardState(Term(4), MemberId(9), Index(100))
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

    assert (storage.last_index, storage.last_term) == (7, 2)
    storage.abandon()
    assert read_all(LogStorage.open(path)) == entries(1, 5) + entries(6, 7, term=2)


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
        ("UPDATE entries SET kind = 1 WHERE idx = 10", "wrong checksum at index 10"),
        ("UPDATE entries SET term = 2 WHERE idx = 10", "wrong checksum at index 10"),
        ("DELETE FROM entries WHERE idx = 4", "has entry 5 where 4 belongs"),
        ("DELETE FROM entries WHERE idx < 4", "has entry 4 where 1 belongs"),
        ("UPDATE state SET term = 9", "state row with a wrong checksum"),
        ("DELETE FROM state", "has no state row"),
        ("PRAGMA user_version = 3", "has format 3, this program knows formats up to 2"),
        ("PRAGMA user_version = 0", "has no format version"),
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
    tampered(path, "PRAGMA user_version = 2")
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


def ready(
    number: int,
    put: list[Entry] | None = None,
    hard_state: HardState | None = None,
    snapshot: SnapshotMeta | None = None,
) -> Ready:
    return Ready(
        number=number,
        role=Role.FOLLOWER,
        leader=MemberId(1),
        messages=(),
        hard_state=hard_state,
        must_sync=bool(put),
        entries=tuple(put or ()),
        snapshot=snapshot,
        after_persist=(),
        committed=(),
        snapshot_orders=(),
        reads=(),
        reads_lost=(),
        refused=(),
    )


def hard(term: int, commit: int, vote: int = 0) -> HardState:
    return HardState(Term(term), MemberId(vote), Index(commit))


def change(index: int, term: int = 1) -> Entry:
    return Entry(Index(index), Term(term), b"a member comes", EntryKind.CONF_CHANGE)


SNAPSHOT = SnapshotMeta(Index(50), Term(3), Membership.of([1, 2, 3]))

VERSION_1 = """
PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;
CREATE TABLE entries(
  idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE state(
  id INTEGER PRIMARY KEY CHECK (id = 1),
  cluster_id TEXT NOT NULL, member_id TEXT NOT NULL, generation INTEGER NOT NULL,
  term INTEGER NOT NULL, vote TEXT NOT NULL, commit_index INTEGER NOT NULL,
  cut_index INTEGER NOT NULL, cut_term INTEGER NOT NULL, crc INTEGER NOT NULL);
PRAGMA application_id=0x6B767266; PRAGMA user_version=1;
INSERT INTO state VALUES (
  1, '0000000000000005', '0000000000000006', 1, 2, '0000000000000006', 3, 1, 1, {state_crc});
INSERT INTO entries VALUES (2, 1, {crc_2}, x'6f6e65'), (3, 2, {crc_3}, x'');
"""


def version_1(path: Path, sql: str = "") -> None:
    """A log as the first version left it, sums counted here."""
    numbers = {
        "state_crc": zlib.crc32(struct.pack(">8Q", 5, 6, 1, 2, 6, 3, 1, 1)),
        "crc_2": zlib.crc32(b"one", zlib.crc32(struct.pack(">QQ", 2, 1))),
        "crc_3": zlib.crc32(struct.pack(">QQ", 3, 2)),
    }
    db = sqlite3.connect(path)
    db.executescript(VERSION_1.format(**numbers) + sql)
    db.close()


def test_a_log_of_version_1_is_upgraded_in_place(path: Path) -> None:
    version_1(path)

    LogStorage.open(path).abandon()
    storage = LogStorage.open(path)

    assert (storage.cluster_id, storage.member_id, storage.generation) == (5, 6, 1)
    assert storage.hard_state == hard(2, 3, vote=6)
    old = [Entry(Index(2), Term(1), b"one"), Entry(Index(3), Term(2), b"")]
    assert read_all(storage) == old
    storage.append([change(4, term=2)])
    storage.close()
    assert read_all(LogStorage.open(path)) == [*old, change(4, term=2)]


def test_a_damaged_log_of_version_1_is_not_touched(path: Path) -> None:
    version_1(path, "UPDATE entries SET data = x'00' WHERE idx = 3;")
    before = path.read_bytes()

    with pytest.raises(LogError, match="wrong checksum at index 3"):
        LogStorage.open(path)

    assert files(path) in ({"raft.db": before}, {"raft.db": before, "raft.db-wal": b""})


def test_a_member_is_bootstrapped_behind_a_cut_that_all_share(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.bootstrap(5, 6, cut_index=Index(1), cut_term=Term(1), term=Term(1))
    storage.abandon()

    again = LogStorage.open(path)

    assert (again.cluster_id, again.member_id) == (5, 6)
    assert (again.first_index, again.last_index, again.last_term) == (2, 1, 1)
    assert again.term_at(Index(1)) == 1
    assert again.hard_state == hard(1, 1)
    with pytest.raises(LogError, match="holds a log already"):
        again.bootstrap(5, 6, cut_index=Index(1), cut_term=Term(1), term=Term(1))
    again.append(entries(2, 3))
    assert read_all(again) == entries(2, 3)


def test_what_was_cut_is_compacted_for_the_core(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 10, term=3))
    storage.cut(Index(4))
    view: LogView = storage

    assert view.term_at(Index(4)) == 3
    assert view.entries(Index(5), Index(6), 1 << 20) == entries(5, 6, term=3)
    with pytest.raises(Compacted):
        view.term_at(Index(3))
    with pytest.raises(Compacted):
        view.entries(Index(4), Index(6), 1 << 20)


def transactions(path: Path, storage: LogStorage, action: Callable[[], None]) -> int:
    """How many the action takes: each ends with one commit frame in the WAL."""

    def commits() -> int:
        wal = path.with_name("raft.db-wal").read_bytes()
        return sum(
            struct.unpack_from(">I", wal, at + 4) != (0,) for at in range(32, len(wal), 24 + 4096)
        )

    storage.set_generation(storage.generation)  # the WAL is there and was begun
    before = commits()
    action()
    return commits() - before


def test_several_readies_are_one_transaction(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 10))
    readies = [
        ready(1, entries(9, 12, term=2), hard(2, 5)),
        ready(2),
        ready(3, [*entries(11, 80, term=3), change(81, term=3)], hard(3, 8, vote=1)),
    ]

    assert transactions(path, storage, lambda: storage.write(readies, cut_through=Index(6))) == 1
    storage.abandon()

    again = LogStorage.open(path)
    assert read_all(again) == [
        *entries(7, 8),
        *entries(9, 10, term=2),
        *entries(11, 80, term=3),
        change(81, term=3),
    ]
    assert again.hard_state == hard(3, 8, vote=1)
    assert again.term_at(Index(6)) == 1


def test_a_snapshot_replaces_the_log_and_names_its_store_in_one_transaction(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 10), hard_state=hard(1, 9))
    readies = [
        ready(1, entries(11, 12)),
        ready(2, hard_state=hard(3, 50), snapshot=SNAPSHOT),
        ready(3, entries(51, 53, term=3)),
    ]

    assert transactions(path, storage, lambda: storage.write(readies, generation=2)) == 1
    storage.abandon()

    again = LogStorage.open(path)
    assert (again.first_index, again.last_index, again.generation) == (51, 53, 2)
    assert again.hard_state == hard(3, 50)
    assert again.term_at(Index(50)) == 3
    assert read_all(again) == entries(51, 53, term=3)


def test_a_snapshot_leaves_nothing_of_a_longer_log(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 200))
    storage.write([ready(1, hard_state=hard(3, 50), snapshot=SNAPSHOT)], generation=2)

    assert (storage.first_index, storage.last_index, storage.last_term) == (51, 50, 3)
    assert storage.cuttable(Index(200), 0, 0, 500) == 50
    storage.abandon()
    again = LogStorage.open(path)
    assert (again.first_index, again.last_index, again.last_term) == (51, 50, 3)


def test_a_commit_index_alone_costs_no_write(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.write([ready(1, entries(1, 5), hard(1, 0, vote=1))])

    assert transactions(path, storage, lambda: storage.write([ready(2, None, hard(1, 5, 1))])) == 0
    assert storage.hard_state == hard(1, 5, vote=1)
    storage.write([ready(3, entries(6, 6), hard(1, 5, vote=1))])
    storage.abandon()
    again = LogStorage.open(path)
    assert again.hard_state == hard(1, 0, vote=1)
    again.write([ready(1, None, hard(1, 6, vote=1))])
    again.close()
    assert LogStorage.open(path).hard_state == hard(1, 6, vote=1)


def test_a_change_of_members_is_never_written_without_the_commit_index(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.write([ready(1, entries(1, 5), hard(1, 0))])
    storage.write([ready(2, None, hard(1, 5))])
    storage.write([ready(3, [change(6)])])
    storage.abandon()

    assert LogStorage.open(path).hard_state == hard(1, 5)


@pytest.mark.parametrize("setting", ["set_generation", "set_identity", "cut"])
def test_a_delayed_commit_index_rides_with_any_write_of_the_state(path: Path, setting: str) -> None:
    storage = LogStorage.open(path)
    storage.write([ready(1, entries(1, 5))])
    storage.write([ready(2, None, hard(0, 5))])
    match setting:
        case "set_generation":
            storage.set_generation(2)
        case "set_identity":
            storage.set_identity(5, 6)
        case _:
            storage.cut(Index(3))
    storage.abandon()

    assert LogStorage.open(path).hard_state == hard(0, 5)


def test_readies_that_do_not_fit_the_log_are_refused(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 3))

    with pytest.raises(ValueError, match="entry 5 does not follow 3"):
        storage.write([ready(1, entries(5, 5))])
    with pytest.raises(ValueError, match="entry 6 does not follow 4"):
        storage.write([ready(1, entries(4, 4)), ready(2, entries(6, 6))])
    with pytest.raises(ValueError, match="a snapshot and its generation"):
        storage.write([ready(1, snapshot=SNAPSHOT)])
    with pytest.raises(ValueError, match="cannot cut at 4"):
        storage.write([ready(1)], cut_through=Index(4))
    assert read_all(storage) == entries(1, 3)


def test_opening_a_log_that_was_closed_writes_nothing(path: Path) -> None:
    storage = LogStorage.open(path)
    storage.append(entries(1, 10))
    storage.close()
    before = files(path)["raft.db"]

    LogStorage.open(path).abandon()

    assert files(path) in ({"raft.db": before}, {"raft.db": before, "raft.db-wal": b""})
