"""What is not a whole kv.db of ours, of a format we know, is refused and left as it is."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from kvshim.backend.backend import Backend
from kvshim.errors import StartupError
from kvshim.version import FORMAT_VERSION
from tests.backend.support import content, open_store, put


def make(path: Path) -> None:
    store = open_store(path)
    for number in range(200):
        put(store, b"key%03d" % number, b"v" * 500)
    store.backend.close()


def newer_format(path: Path) -> None:
    make(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


def other_program(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE recipes (name TEXT)")
    db.close()


def not_a_database(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n" * 1000)


def cut_short(path: Path) -> None:
    make(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def without_its_last_page(path: Path) -> None:
    make(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)


def overwritten_schema(path: Path) -> None:
    make(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xaa" * 3000)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (newer_format, f"has format 99, this program knows up to {FORMAT_VERSION}"),
        (other_program, "another program's database"),
        (not_a_database, "not a kvshim store"),
        (cut_short, "is corrupt"),
        (without_its_last_page, "is corrupt"),
        (overwritten_schema, "is corrupt"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "kv-1.db"
    spoil(path)
    before = content(path)
    with pytest.raises(StartupError, match=message) as caught:
        Backend.open(path)
    assert "\n" not in str(caught.value)
    assert content(path) == before


def test_a_newer_format_is_refused_before_its_wal_is_touched(tmp_path: Path) -> None:
    """The version lies in a WAL that a killed process left behind."""
    path = tmp_path / "kv-1.db"
    newer_format(path)
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("PRAGMA user_version = 100")
    copy = tmp_path / "copy" / "kv-1.db"
    copy.parent.mkdir()
    for name in ("kv-1.db", "kv-1.db-wal"):
        shutil.copy(tmp_path / name, copy.parent / name)
    db.close()
    before = content(copy)
    assert len(before["kv-1.db-wal"]) > 0
    with pytest.raises(StartupError, match="has format 100"):
        Backend.open(copy)
    assert content(copy) == before


def test_a_file_that_was_cut_off_while_it_was_made_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    path.touch()
    open_store(path).backend.close()
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    store = open_store(path)
    assert store.revision == 1
    store.backend.close()


def test_pages_have_the_chosen_size_and_can_be_given_back(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    open_store(path, page_size=16384).backend.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA page_size").fetchone() == (16384,)
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_every_connection_syncs(tmp_path: Path) -> None:
    """NORMAL is 1: OFF on any one of them could lose what is called durable."""
    store = open_store(tmp_path / "kv-1.db")
    backend = store.backend
    with store.read() as pooled, store.read_short() as short:
        for session in (
            backend.writer,
            backend._checkpoint_session,
            pooled._session,
            short._session,
        ):
            assert session.one("PRAGMA synchronous") == (1,)
            assert session.one("PRAGMA wal_autocheckpoint") == (0,)
    backend.close()


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="unable to open"):
        Backend.open(tmp_path / "absent" / "kv-1.db")
