"""Checkpoints: they bound the WAL whatever readers do, and say what is durable."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from kvshim.errors import StorageError
from kvshim.types import KeyRange
from tests.backend.support import Outside, eventually, open_store, put

MIB = 1 << 20
VALUE = b"v" * 10_000


def wal_bytes(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


def test_overlapping_readers_do_not_let_the_wal_grow(tmp_path: Path) -> None:
    """Given readers of which one is always active, when 30 MiB are written, the WAL stays small."""
    path = tmp_path / "kv-1.db"
    store = open_store(path, wal_bytes_max=MIB, checkpoint_bytes=MIB // 4)
    stop = threading.Event()
    failures: list[BaseException] = []

    def read(offset: float) -> None:
        try:
            time.sleep(offset)
            while not stop.is_set():
                with store.read() as view:
                    list(view.select(KeyRange(b"", None)))
                    time.sleep(0.05)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read, args=(number * 0.02,)) for number in range(3)]
    for reader in readers:
        reader.start()
    largest = 0
    for number in range(3000):
        put(store, b"key%02d" % (number % 50), VALUE, number + 1)
        largest = max(largest, wal_bytes(path))
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert largest < 2 * MIB
    assert store.backend.checkpointer.restarts_total > 0
    assert store.backend.pinned_seconds() == 0
    store.backend.close()


def test_durable_is_what_was_applied_before_a_whole_checkpoint(tmp_path: Path) -> None:
    store = open_store(tmp_path / "kv-1.db", checkpoint_seconds=3600)
    put(store, b"a", b"1", 5)
    assert (store.applied_index, store.durable_index()) == (5, 0)
    store.backend.checkpointer.run_once()
    assert store.durable_index() == 5
    put(store, b"a", b"2", 6)
    assert store.durable_index() == 5
    store.backend.close()


def test_a_checkpoint_that_could_not_copy_everything_makes_nothing_durable(tmp_path: Path) -> None:
    store = open_store(tmp_path / "kv-1.db", checkpoint_seconds=3600)
    put(store, b"a", b"1", 5)
    with store.read():
        put(store, b"a", b"2", 6)
        store.backend.checkpointer.run_once()
        assert store.durable_index() == 0
    store.backend.checkpointer.run_once()
    assert store.durable_index() == 6
    store.backend.close()


def test_what_a_killed_process_left_is_durable_once_opened(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    killed = open_store(path, checkpoint_seconds=3600)
    put(killed, b"a", b"1", 7)
    store = open_store(path)
    assert (store.applied_index, store.durable_index(), store.revision) == (7, 7, 2)
    store.backend.close()
    killed.backend.close()


def test_a_quiet_store_is_checkpointed_after_a_while(tmp_path: Path) -> None:
    store = open_store(tmp_path / "kv-1.db", checkpoint_seconds=0.05)
    put(store, b"a", b"1", 5)
    assert eventually(lambda: store.durable_index() == 5)
    store.backend.close()


def test_a_checkpoint_that_comes_right_behind_a_commit_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a checkpoint before the committed index is known, then the next one finds it."""
    store = open_store(tmp_path / "kv-1.db", checkpoint_seconds=0.05)
    checkpointer = store.backend.checkpointer
    committed = checkpointer.committed

    def at_once(wal_frames: int) -> None:
        committed(wal_frames)
        thread = threading.Thread(target=checkpointer.run_once)
        thread.start()
        thread.join()

    monkeypatch.setattr(checkpointer, "committed", at_once)
    put(store, b"a", b"1", 5)
    assert eventually(lambda: store.durable_index() == 5, seconds=3)
    store.backend.close()


def test_an_outside_reader_that_pins_the_wal_is_told_once_and_measured(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    store = open_store(path, wal_bytes_max=MIB // 2, checkpoint_bytes=MIB // 8)
    told: list[tuple[float, int]] = []
    store.backend.checkpointer.on_wal_pinned = lambda seconds, size: told.append((seconds, size))
    put(store, b"a", b"1")
    outside = Outside(path)
    outside.run("BEGIN")
    outside.run("SELECT count(*) FROM kv")
    for number in range(300):
        put(store, b"key%02d" % (number % 10), VALUE)
    assert eventually(lambda: store.backend.pinned_seconds() > 0)
    assert eventually(lambda: len(told) == 1)
    assert told[0][1] > MIB // 2
    outside.close()
    put(store, b"a", b"2")
    assert eventually(lambda: store.backend.pinned_seconds() == 0)
    assert len(told) == 1
    store.backend.close()


def test_outside_readers_that_look_in_in_turn_are_not_told(tmp_path: Path) -> None:
    """Given a WAL too long to be left, when there always is a reader but none that stays."""
    path = tmp_path / "kv-1.db"
    store = open_store(path, wal_bytes_max=MIB // 2, checkpoint_bytes=MIB // 8)
    told: list[float] = []
    store.backend.checkpointer.on_wal_pinned = lambda seconds, _size: told.append(seconds)
    looking: Outside | None = None
    for turn in range(8):
        for number in range(60):
            put(store, b"key%02d" % (number % 10), VALUE)
        following = Outside(path)
        following.run("BEGIN")
        following.run("SELECT count(*) FROM kv")
        if looking is not None:
            looking.close()
        looking = following
        assert turn < 2 or store.backend.pinned_seconds() > 0
        time.sleep(0.5)
    assert not told
    assert looking is not None
    looking.close()
    store.backend.close()


def test_an_outside_reader_of_a_short_wal_is_found_too(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    store = open_store(path, checkpoint_seconds=0.1)
    put(store, b"a", b"1")
    outside = Outside(path)
    outside.run("BEGIN")
    outside.run("SELECT count(*) FROM kv")
    put(store, b"a", b"2")
    assert eventually(lambda: store.backend.pinned_seconds() > 0)
    outside.close()
    assert eventually(lambda: store.backend.pinned_seconds() == 0)
    store.backend.close()


def test_a_reader_of_ours_is_no_outside_reader(tmp_path: Path) -> None:
    store = open_store(tmp_path / "kv-1.db", checkpoint_seconds=0.05)
    with store.read():
        put(store, b"a", b"1")
        time.sleep(2.5)
        assert store.backend.pinned_seconds() == 0
    store.backend.close()


def test_an_outside_writer_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    store = open_store(path)
    outside = Outside(path)
    outside.run("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: outside.run("ROLLBACK"))
    timer.start()
    put(store, b"a", b"1")
    timer.join()
    assert store.revision == 2
    outside.close()
    store.backend.close()


def test_the_writer_waits_for_a_checkpoint_thread_that_lags(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    store = open_store(path, wal_bytes_max=MIB, checkpoint_bytes=MIB // 4)

    def write() -> None:
        for number in range(400):
            put(store, b"key%02d" % (number % 10), VALUE)

    writer = threading.Thread(target=write)
    with store.backend.checkpointer._lock:
        writer.start()
        assert eventually(lambda: wal_bytes(path) > MIB)
        time.sleep(0.7)
        assert wal_bytes(path) < 2 * MIB
    writer.join()
    assert store.revision == 401
    store.backend.close()


def test_a_store_that_failed_is_closed_without_copying_its_wal(tmp_path: Path) -> None:
    """What an error left behind is for the next start to judge, not to be spread further."""
    path = tmp_path / "kv-1.db"
    store = open_store(path, checkpoint_seconds=3600)
    put(store, b"a", VALUE)
    before = path.read_bytes()
    store.backend.failure = StorageError("broken")
    with pytest.raises(StorageError, match="broken"):
        put(store, b"a", VALUE)
    store.backend.close()
    assert path.read_bytes() == before
    assert wal_bytes(path) > len(VALUE)
    store = open_store(path)
    assert store.revision == 2
    store.backend.close()
