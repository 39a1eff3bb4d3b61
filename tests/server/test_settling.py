"""What short batches left open is committed soon, also if nobody asks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kvshim.errors import StorageError
from kvshim.mvcc.store import Store
from kvshim.server import settling
from kvshim.server.settling import Settling
from tests.backend.support import open_store, put


def write(store: Store, settler: Settling, index: int) -> None:
    put(store, b"key", b"value", index, stays_open=True)
    settler.observe()


async def test_it_is_committed_after_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 0.0)
    store = open_store(tmp_path / "kv-1.db")
    settler = Settling(asyncio.get_running_loop(), store)
    write(store, settler, 1)  # The first one after a start is committed at once.
    for index in (2, 3):
        write(store, settler, index)
        assert store.is_open
        await asyncio.sleep(0.05)
        assert not store.is_open
    store.close()


async def test_writes_do_not_put_it_off(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    store = open_store(tmp_path / "kv-1.db")
    settler = Settling(loop, store)
    write(store, settler, 1)
    assert settler._timer is None
    write(store, settler, 2)
    due = settler._timer
    assert due is not None
    assert due.when() <= loop.time() + settling.SETTLE_SECONDS
    write(store, settler, 3)
    assert settler._timer is due
    due.cancel()
    store.close()


async def test_a_store_that_failed_is_no_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has told why to whoever ends the node."""
    store = open_store(tmp_path / "kv-1.db")
    settler = Settling(asyncio.get_running_loop(), store)

    def fail() -> None:
        raise StorageError("the disk is on fire")

    monkeypatch.setattr(store, "settle", fail)
    settler._settle()
    store.close()
