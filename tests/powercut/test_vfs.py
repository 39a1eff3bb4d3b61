"""The simulated disk itself: it keeps what was synced, and it can lose what was not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from tests.powercut.vfs import Disk, Fate, PowerCut, weakened


def counting(disk: Disk, path: Path, synchronous: str) -> int:
    """Commit 1, 2, 3, ... until the power goes; the last number that was acknowledged."""
    db = apsw.Connection(str(path), vfs=disk.name)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    acknowledged = 0
    try:
        db.execute(f"PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}").fetchall()
        db.execute(
            "PRAGMA wal_autocheckpoint=20; CREATE TABLE t(n INTEGER PRIMARY KEY, x BLOB)"
        ).fetchall()
        while True:
            db.execute("INSERT INTO t VALUES (?, randomblob(700))", (acknowledged + 1,))
            acknowledged += 1
    except PowerCut:
        return acknowledged
    finally:
        db.close(True)


def numbers_after_cut(disk: Disk, directory: Path) -> list[int]:
    disk.surviving(directory)
    db = apsw.Connection(str(directory / "n.db"))
    if not db.table_exists("main", "t"):
        return []
    assert db.pragma("integrity_check") == "ok"
    return [int(n) for (n,) in db.execute("SELECT n FROM t ORDER BY n")]


def cut_run(tmp_path: Path, seed: int, synchronous: str) -> tuple[int, list[int]]:
    rng = random.Random(seed)
    disk = Disk(rng, cut_at=rng.randint(1, 400))
    (tmp_path / str(seed)).mkdir()
    acknowledged = counting(disk, tmp_path / str(seed) / "n.db", synchronous)
    return acknowledged, numbers_after_cut(disk, tmp_path / str(seed) / "after")


def test_full_keeps_every_commit_and_perhaps_the_one_in_flight(tmp_path: Path) -> None:
    for seed in range(60):
        acknowledged, numbers = cut_run(tmp_path, seed, "FULL")
        possible = [list(range(1, acknowledged + 1)), list(range(1, acknowledged + 2))]
        assert numbers in possible, f"seed {seed}"


def test_normal_keeps_a_prefix_and_loses_commits_sometimes(tmp_path: Path) -> None:
    lost = 0
    for seed in range(60):
        acknowledged, numbers = cut_run(tmp_path, seed, "NORMAL")
        assert numbers == list(range(1, len(numbers) + 1)), f"seed {seed}"
        lost += len(numbers) < acknowledged
    assert lost > 10


def test_weakened_connections_cannot_ask_for_more(tmp_path: Path) -> None:
    with weakened("n.db", 0):
        db = apsw.Connection(str(tmp_path / "n.db"))
        other = apsw.Connection(str(tmp_path / "other.db"))
        db.execute("PRAGMA synchronous=FULL").fetchall()
        db.pragma("synchronous", 2)
        other.pragma("synchronous", 1)
        assert db.pragma("synchronous") == 0
        assert other.pragma("synchronous") == 1
    db = apsw.Connection(str(tmp_path / "n.db"))
    assert db.pragma("synchronous") == 2


@pytest.mark.parametrize(
    ("fate", "possible"),
    [
        (Fate.NONE_SURVIVE, lambda image: image == b"a" * 4096),
        (Fate.ALL_SURVIVE, lambda image: image == b"b" * 2048 + b"c" * 4096),
        (Fate.EACH_SECTOR_AS_IT_LIKES, lambda image: set(image) <= set(b"abc\x00")),
    ],
)
def test_fates(tmp_path: Path, fate: Fate, possible: Callable[[bytes], bool]) -> None:
    disk = Disk(random.Random(4))
    disk.fate, disk.sector = fate, 512
    flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_READWRITE, 0]
    file = disk.xOpen(str(tmp_path / "f"), flags)
    file.xWrite(b"a" * 4096, 0)
    file.xSync(0)
    file.xWrite(b"b" * 4096, 0)
    file.xWrite(b"c" * 4096, 2048)
    file.xClose()

    disk.surviving(tmp_path / "after")

    image = (tmp_path / "after" / "f").read_bytes()
    assert possible(image)
    assert len(image) <= 6144
