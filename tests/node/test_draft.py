"""A new data directory is there whole or not at all, and nothing in its place is ever touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.backend.backend import Backend
from kvshim.errors import StartupError
from kvshim.mvcc.store import Store
from kvshim.node.draft import DRAFT_NAME, DraftError, make_data, refuse_draft
from kvshim.types import LeaseID


def fill(store: Store, room: Path) -> str:
    room.write_bytes(b"a snapshot that was fetched")
    with store.write() as batch:
        txn = batch.begin()
        txn.put(b"a", b"1", LeaseID(0))
        txn.finish()
        batch.skip(1000)
    return "filled"


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def test_one_file_that_is_complete(tmp_path: Path):
    path = tmp_path / "new" / "data"
    assert make_data(path, fill) == "filled"
    assert names(path) == {"lock", "kv-1.db"}
    assert path.stat().st_mode & 0o777 == 0o700
    store = Store(Backend.open(path / "kv-1.db"))
    with store.read() as view:
        assert (view.revision, view.compact_revision) == (1002, 1002)
        assert view.get(b"a") is not None
    store.close()


def test_a_failure_leaves_no_data_and_can_be_repeated(tmp_path: Path):
    def fail(store: Store, room: Path) -> None:
        fill(store, room)
        raise DraftError("the source is gone")

    with pytest.raises(DraftError, match="the source is gone"):
        make_data(tmp_path, fail)
    assert names(tmp_path) == {"lock"}
    make_data(tmp_path, fill)
    assert names(tmp_path) == {"lock", "kv-1.db"}


def test_what_a_crash_left_is_thrown_away(tmp_path: Path):
    for name in (DRAFT_NAME, f"{DRAFT_NAME}-wal", "kv-import-source.db", "lock"):
        (tmp_path / name).write_bytes(b"half")
    with pytest.raises(StartupError, match="cut short"):
        refuse_draft(tmp_path)
    make_data(tmp_path, fill)
    assert names(tmp_path) == {"lock", "kv-1.db"}
    refuse_draft(tmp_path)


@pytest.mark.parametrize("name", ["kv-1.db", "raft.db", "member", "notes.txt"])
def test_a_directory_that_holds_anything_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(DraftError, match="is not empty"):
        make_data(tmp_path, fill)
    assert names(tmp_path) == {name}
    assert (tmp_path / name).read_bytes() == b"precious"


def test_a_file_system_of_its_own_may_have_lost_and_found(tmp_path: Path):
    (tmp_path / "lost+found").mkdir()
    make_data(tmp_path, fill)
    assert names(tmp_path) == {"lock", "kv-1.db", "lost+found"}
