"""Batches that share a transaction: cheaper to write, and nobody can tell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from kvshim.backend import schema, writer
from kvshim.errors import StorageError
from kvshim.mvcc import compaction
from kvshim.mvcc.store import Store, WriteBatch
from kvshim.types import KeyRange, LeaseID
from tests.backend import support
from tests.backend.support import eventually, open_store

HOUR = 3600.0
WAIT_SECONDS = 10.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "kv-1.db", checkpoint_seconds=HOUR)
    store.commit_seconds()
    write(store, 1, stays_open=False)
    assert commits(store) == 1
    yield store
    if store.backend._writer.lost is None:
        store.close()


def key(number: int) -> bytes:
    return b"key%04d" % number


def write(store: Store, number: int, value: bytes = b"v", *, stays_open: bool = True) -> None:
    """One short batch with one key; its number is the applied index too."""
    support.put(store, key(number), value, number, stays_open=stays_open)


def put(batch: WriteBatch, number: int) -> None:
    """The same within a batch that a test looks into."""
    txn = batch.begin()
    txn.put(key(number), b"v", LeaseID(0))
    txn.finish()
    batch.set_applied(number, 1)


def commits(store: Store) -> int:
    return len(store.commit_seconds())


def count(store: Store) -> int:
    with store.read() as view:
        return len(list(view.select(KeyRange(b"", None))))


def committed_index(path: Path) -> int:
    """What another connection finds, which tells nobody that it reads."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(db.execute(schema.READ_STATE).fetchall()[0][2])
    finally:
        db.close()


def test_batches_that_nobody_reads_between_share_a_commit(store: Store) -> None:
    for number in range(2, 12):
        write(store, number)
    assert commits(store) == 0
    assert store.applied_index == 11
    assert count(store) == 11
    assert commits(store) == 1


def test_they_write_a_page_once(store: Store, tmp_path: Path) -> None:
    wal = tmp_path / "kv-1.db-wal"

    def written(*, stays_open: bool) -> int:
        before = wal.stat().st_size
        for number in range(2, 52):
            write(store, number, stays_open=stays_open)
        store.backend.settle()
        return wal.stat().st_size - before

    together = written(stays_open=True)
    assert together * 10 < written(stays_open=False)


def test_each_kind_of_read_sees_them(store: Store, tmp_path: Path) -> None:
    write(store, 2)
    with store.read_short() as view:
        assert view.revision == 3
    write(store, 3)  # A read came before: this one is committed.
    write(store, 4)
    assert store.copy(tmp_path / "copy.db", lambda view: view.revision) == (4, 1, 5)


def test_where_reads_and_writes_take_turns_a_read_finds_all_committed(store: Store) -> None:
    for number in range(2, 6):
        count(store)
        write(store, number)
        assert commits(store) == 1
    write(store, 6)
    assert commits(store) == 0


def test_what_stays_open_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, 2, bytes(2 * writer.OPEN_BYTES_MAX))
    assert commits(store) == 1
    write(store, 3)
    assert commits(store) == 0
    monkeypatch.setattr(writer, "OPEN_ROWS_MAX", 8)
    write(store, 4)
    assert commits(store) == 0
    write(store, 5)
    assert commits(store) == 1


def test_a_batch_that_may_take_long_begins_with_all_before_it_committed(store: Store) -> None:
    write(store, 2)
    with store.write() as batch:
        put(batch, 3)
        assert committed_index(store.backend.path) == 2
    assert committed_index(store.backend.path) == 3


def test_upkeep_that_fails_takes_nothing_with_it(store: Store) -> None:
    write(store, 2)
    store.backend.begin_write()
    store.backend.rollback()
    assert count(store) == 2


def test_a_batch_that_fails_is_undone_alone(store: Store) -> None:
    write(store, 2)
    write(store, 3)
    with pytest.raises(TypeError):
        write(store, 4, "not bytes")
    assert (store.applied_index, commits(store)) == (3, 0)
    write(store, 5)
    assert (count(store), commits(store)) == (4, 1)


def test_a_disk_that_is_full_makes_no_read_go_back_in_time(store: Store) -> None:
    """SQLite gives up the whole transaction then, with batches that were told of."""
    write(store, 2)
    store.backend.writer.db.pragma("max_page_count", 20)
    with pytest.raises(StorageError, match="full"):
        write(store, 3, bytes(1_000_000))
    assert_ended(store)


def assert_ended(store: Store) -> None:
    """Nothing goes on here; another start finds what was committed, and the log has the rest."""
    for attempt in (count, lambda store: write(store, 4)):
        with pytest.raises(StorageError, match=r"start it again|on fire"):
            attempt(store)
    store.close()
    again = open_store(store.backend.path)
    assert (again.applied_index, count(again)) == (1, 1)
    again.close()


def test_closing_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    store = open_store(path)
    for number in range(1, 4):
        write(store, number)
    assert committed_index(path) < 3
    store.close()
    store = open_store(path)
    assert (store.applied_index, count(store)) == (3, 3)
    store.close()


def test_a_checkpoint_makes_them_durable(store: Store) -> None:
    write(store, 2)
    assert store.durable_index() < 2
    store.backend.checkpointer.run_once()
    assert store.durable_index() == 2


def test_one_that_nobody_follows_is_committed_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    store = open_store(path, checkpoint_seconds=0.01)
    for number in range(1, 4):
        write(store, number)
    assert eventually(lambda: committed_index(path) == store.durable_index() == 3)
    store.close()


def test_the_commit_that_begins_the_wal_anew_is_a_batchs_own(store: Store) -> None:
    """It waits for the disk, which a read on the event loop must not."""
    store.backend.checkpointer.run_once()
    write(store, 2)
    assert commits(store) == 1
    write(store, 3)
    assert commits(store) == 0
    with store.backend._writer.each_alone():
        for number in (4, 5):
            write(store, number)
            assert commits(store) == 1


def test_the_wal_is_reset_although_one_is_open(tmp_path: Path) -> None:
    path = tmp_path / "kv-1.db"
    store = open_store(path, checkpoint_seconds=HOUR, wal_bytes_max=200_000)
    longest = 0
    for number in range(1, 2000):
        write(store, number, bytes(1000))
        longest = max(longest, path.with_name("kv-1.db-wal").stat().st_size)
    assert store.backend.checkpointer.restarts_total > 0
    assert longest < 4 * 200_000
    assert (count(store), store.backend.pinned_seconds()) == (1999, 0)
    store.close()


def test_a_pause_for_a_checkpoint_ends_what_is_open(store: Store) -> None:
    """Between what the checkpoint committed first and its pause another batch may have come."""
    write(store, 2)
    assert store.backend.checkpointer._restart(log=1, copied=1)
    assert store.durable_index() == 2


def test_upkeep_reads_when_nothing_is_open(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or another thread's read would commit on the connection that it reads with."""
    monkeypatch.setattr(compaction, "_HASH_ROWS", 1)
    with store.write() as batch:
        put(batch, 2)
        put(batch, 3)
        batch.compact(3)
    assert store.between_batches()
    write(store, 4)
    write(store, 5)
    commits(store)
    assert store.between_batches()
    assert commits(store) == 1


def test_a_read_waits_for_the_batch_that_goes_on_in_an_open_transaction(store: Store) -> None:
    write(store, 2)
    counts: list[int] = []
    reader = threading.Thread(target=lambda: counts.append(count(store)))
    with store.write(stays_open=True) as batch:
        put(batch, 3)
        reader.start()
        reader.join(0.1)
        assert reader.is_alive()
    reader.join(WAIT_SECONDS)
    assert counts == [3]


def test_a_read_waits_for_no_other_batch(store: Store) -> None:
    with store.write(stays_open=True) as batch:
        put(batch, 2)
        assert count(store) == 1


def test_reads_beside_batches_see_each_that_ended(store: Store) -> None:
    failures: list[str] = []
    done = threading.Event()

    def read(short: bool) -> None:
        while not done.is_set():
            applied = store.applied_index
            with store.read_short() if short else store.read() as view:
                if view.revision < applied + 1:
                    failures.append(f"{view.revision} after {applied}")

    readers = [threading.Thread(target=read, args=(short,)) for short in (True, False, False)]
    for reader in readers:
        reader.start()
    for number in range(2, 1500):
        write(store, number)
    done.set()
    for reader in readers:
        reader.join(WAIT_SECONDS)
    assert failures == []


def test_a_commit_that_fails_makes_no_read_go_back_in_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[StorageError] = []
    store.backend.on_failure = told.append
    write(store, 2)
    run = type(store.backend.writer).run

    def refuse(session: object, sql: str, parameters: tuple[object, ...] = ()) -> None:
        if sql == "COMMIT" and session is store.backend.writer:
            raise StorageError("the disk is on fire")
        run(session, sql, parameters)

    monkeypatch.setattr(type(store.backend.writer), "run", refuse)
    with pytest.raises(StorageError, match="on fire"):
        count(store)
    monkeypatch.undo()
    assert [str(error) for error in told] == ["the disk is on fire"]
    assert_ended(store)
