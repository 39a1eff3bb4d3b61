"""What one write of the log leaves behind when the power goes at each of its steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raft.core.types import HardState
from raft.database import LogOptions
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
from tests.powercut.vfs import Disk, Fate
from tests.raft.test_storage import entries, ready

BEFORE = entries(1, 10)


@contextmanager
def machine(directory: Path, seed: int, fate: Fate | None = None) -> Iterator[Disk]:
    directory.mkdir(exist_ok=True)
    disk = Disk(random.Random(seed))
    disk.fate = fate or disk.fate
    try:
        yield disk
    finally:
        disk.unregister()


def opened(directory: Path, disk: Disk) -> LogStorage:
    return LogStorage.open(directory / "raft.db", LogOptions(vfs=disk.name))


def state(storage: LogStorage) -> tuple[list[Entry], HardState, int]:
    first, last = storage.first_index, storage.last_index
    return storage.entries(first, last, 1 << 30), storage.hard_state, storage.generation


def replace_the_tail(storage: LogStorage) -> None:
    change = Entry(Index(70), Term(2), b"", EntryKind.CONF_CHANGE)
    hard = HardState(Term(2), MemberId(3), Index(5))
    storage.write(
        [ready(1, entries(8, 69, term=2)), ready(2, [change], hard)], cut_through=Index(4)
    )


def install_a_snapshot(storage: LogStorage) -> None:
    snapshot = SnapshotMeta(Index(50), Term(3), Membership.of([1]))
    hard = HardState(Term(3), MemberId(0), Index(50))
    storage.write([ready(1, entries(51, 52, term=3), hard, snapshot)], generation=2)


@pytest.mark.parametrize("fate", list(Fate), ids=lambda fate: fate.name.lower())
@pytest.mark.parametrize("write", [replace_the_tail, install_a_snapshot])
def test_a_write_is_there_whole_or_not_at_all(
    tmp_path: Path, write: Callable[[LogStorage], None], fate: Fate
) -> None:
    step, seen = 0, set()
    while "done" not in seen:
        step += 1
        root = tmp_path / str(step)
        with machine(root, step, fate) as disk:
            storage = opened(root, disk)
            storage.append(BEFORE)
            before = state(storage)
            disk.cut_at = disk.operations + step
            try:
                write(storage)
                seen.add("done")
            except Exception:
                assert disk.is_off
            disk.is_off = True
            storage.abandon()
            disk.surviving(root / "after")
        with machine(root / "after", step) as disk:
            storage = opened(root / "after", disk)
            write_happened = state(storage) != before
            if write_happened:
                after = state(storage)
                assert after[1].term > 0
                assert after[0][-1].index in (52, 70)
                assert after[2] == (2 if write is install_a_snapshot else 1)
            assert write_happened or "done" not in seen
            storage.abandon()
    assert step > 5


def test_what_a_killed_process_did_not_sync_is_synced_before_it_is_shown(tmp_path: Path) -> None:
    with machine(tmp_path / "a", 1, Fate.NONE_SURVIVE) as disk:
        storage = opened(tmp_path / "a", disk)
        storage.append(BEFORE)
        disk.kill_at = disk.operations + 100
        step = 0
        while storage.last_index == 10:
            step += 1
            disk.kill_at = disk.operations + step
            with pytest.raises(Exception):  # noqa: B017, PT011 - SQLite's or the disk's own
                storage.append(entries(11, 11))
            storage.abandon()
            assert disk.revive()
            storage = opened(tmp_path / "a", disk)
        disk.is_off = True
        storage.abandon()
        disk.surviving(tmp_path / "b")
    with machine(tmp_path / "b", 1) as disk:
        storage = opened(tmp_path / "b", disk)
        assert state(storage)[0] == entries(1, 11)
        storage.abandon()


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    with machine(tmp_path / "a", 1) as disk:
        storage = opened(tmp_path / "a", disk)
        storage.append(BEFORE)
        disk.room = 3_000

        with pytest.raises(LogError, match=r"cannot write .*raft.db: the disk is full"):
            storage.append(entries(11, 40, size=1000))
        storage.abandon()

        disk.room = None
        assert state(opened(tmp_path / "a", disk))[0] == BEFORE
