"""Snapshots for clients: few at once, none for a full disk or a client that reads no more."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest

from kvshim.backend.backups import last_backup
from kvshim.errors import SnapshotFailed, SnapshotNeedsRoom, TooManyRequests
from kvshim.exchange import export as exporting
from kvshim.exchange.export import Export
from kvshim.logs import Logger
from kvshim.mvcc.store import Store
from kvshim.server import snapshots as sending
from kvshim.server.reader import Reader
from kvshim.server.snapshots import SNAPSHOTS_MAX, Snapshots
from tests.exchange.support import change, open_store, versions
from tests.server.cluster import Log

PIECE_BYTES = 1000


class Lines:
    def info(self, event: object, **_: object) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "kv.db")
    for number in range(100):
        change(found, (b"k%d" % number, b"v" * 500))
    yield found
    found.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the files are made."""
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
async def snapshots(store: Store, directory: Path) -> AsyncIterator[Snapshots]:
    with ThreadPoolExecutor(2) as threads:
        reader = Reader(store, Log((1,)), threads, 5.0)
        yield Snapshots(store, reader, directory, lambda: 0, cast("Logger", Lines()))


def open_files(directory: Path) -> int:
    """Files in a directory that this process holds open, with and without a name."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith(str(directory))
        except FileNotFoundError:
            continue
    return found


async def wait_open(directory: Path, count: int) -> None:
    """Until so many files are open: they are closed by a thread."""
    async with asyncio.timeout(5):
        while open_files(directory) != count:  # noqa: ASYNC110 - the system says so, no event
            await asyncio.sleep(0.01)


async def test_pieces_their_rest_and_their_sum(
    snapshots: Snapshots, directory: Path, tmp_path: Path
):
    pieces = [piece async for piece in snapshots.send(PIECE_BYTES, "me")]
    data = b"".join(piece for piece, _ in pieces[:-1])
    assert pieces[-1] == (hashlib.sha256(data).digest(), 0)
    left = len(data)
    for piece, remaining in pieces[:-1]:
        left -= len(piece)
        assert 0 < len(piece) <= PIECE_BYTES
        assert remaining == left
    assert left == 0
    (tmp_path / "s.db").write_bytes(data)
    assert len(versions(tmp_path / "s.db")) == 100
    await wait_open(directory, 0)
    assert os.listdir(directory) == ["last-backup.json"]
    noted = last_backup(directory)
    assert noted is not None
    assert (noted.kind, noted.path, noted.revision) == ("snapshot", "sent to me", 101)


async def test_there_are_few_at_once_and_room_for_the_next_when_one_goes(
    snapshots: Snapshots, directory: Path
):
    held = [snapshots.send(PIECE_BYTES, "me") for _ in range(SNAPSHOTS_MAX)]
    for pieces in held:
        await anext(pieces)
    assert open_files(directory) == SNAPSHOTS_MAX
    assert os.listdir(directory) == []  # none has a name that could be left behind
    with pytest.raises(TooManyRequests):
        await anext(snapshots.send(PIECE_BYTES, "me"))
    await held[0].aclose()
    await wait_open(directory, SNAPSHOTS_MAX - 1)
    async with aclosing(snapshots.send(PIECE_BYTES, "me")) as pieces:
        await anext(pieces)
    await held[1].aclose()
    await wait_open(directory, 0)


async def test_a_client_that_leaves_while_it_is_written(
    snapshots: Snapshots, directory: Path, store: Store, monkeypatch: pytest.MonkeyPatch
):
    entered, go_on = threading.Event(), threading.Event()
    step = Export.step

    def held(export: Export) -> bool:
        entered.set()
        go_on.wait(10)
        return step(export)

    monkeypatch.setattr(Export, "step", held)
    task = asyncio.ensure_future(anext(snapshots.send(PIECE_BYTES, "me")))
    assert await asyncio.to_thread(entered.wait, 10)
    assert store.pins.oldest() is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.pins.oldest() is None
    await asyncio.sleep(0.05)
    assert open_files(directory) == 1  # a thread is writing to it
    go_on.set()
    await wait_open(directory, 0)
    # All places are free again.
    for _ in range(SNAPSHOTS_MAX + 1):
        assert [piece async for piece in snapshots.send(PIECE_BYTES, "me")]
        await wait_open(directory, 0)


async def test_a_client_that_stops_reading_loses_it(
    snapshots: Snapshots, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sending, "STALL_SECONDS_MAX", 0.05)
    monkeypatch.setattr(sending, "_READ_BYTES", PIECE_BYTES)
    stalled = snapshots.send(PIECE_BYTES, "me")
    await anext(stalled)
    assert open_files(directory) == 1
    await wait_open(directory, 0)
    with pytest.raises(SnapshotFailed, match="read nothing"):
        await anext(stalled)


async def test_none_begins_without_room(
    store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    with ThreadPoolExecutor(1) as threads:
        reader = Reader(store, Log((1,)), threads, 5.0)
        greedy = Snapshots(store, reader, directory, lambda: 1 << 60, cast("Logger", Lines()))
        with pytest.raises(SnapshotNeedsRoom, match="MiB of room"):
            await anext(greedy.send(PIECE_BYTES, "me"))


async def test_one_ends_before_the_disk_is_full(
    snapshots: Snapshots, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exporting, "STEP_ROWS", 10)
    pieces = snapshots.send(PIECE_BYTES, "me")
    looks = 0

    def fuller(_: object) -> os.statvfs_result:
        nonlocal looks
        looks += 1
        free = 1 << 20 if looks < 4 else 10
        return os.statvfs_result((4096, 4096, 1 << 30, free, free, 0, 0, 0, 0, 255))

    monkeypatch.setattr(sending.os, "statvfs", fuller)
    with pytest.raises(SnapshotNeedsRoom):
        await anext(pieces)
    assert looks == 4
    await wait_open(directory, 0)
