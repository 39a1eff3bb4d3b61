"""Data that `kvshim import` makes: a draft beside its place, and in its place once it is whole.

What is in place belongs to no cluster: the first start forms one on it, by its flags. An import
that was cut short leaves a draft, on which no node starts, and which the next one throws away.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from kvshim.backend.backend import Backend
from kvshim.backend.datadir import LOCK_NAME, DataDir
from kvshim.backend.files import remove_database, side_files, sync
from kvshim.errors import KvshimError, StartupError
from kvshim.mvcc.store import Store

_T = TypeVar("_T")

DRAFT_NAME: Final = "kv-import.db"
SOURCE_NAME: Final = "kv-import-source.db"
"""A snapshot that was fetched, while it is read."""

_OUR_OWN: Final = {LOCK_NAME, SOURCE_NAME, DRAFT_NAME, f"{DRAFT_NAME}-wal", f"{DRAFT_NAME}-shm"}


class DraftError(KvshimError):
    """No data was made: says why."""


def make_data(path: Path, fill: Callable[[Store, Path], _T]) -> _T:
    """A new data directory, whose store `fill` fills; it is also told where a file may lie.

    Raises `DraftError`, `StartupError` and whatever `fill` raises; then there is no data.
    """
    _refuse_occupied(path)
    directory = DataDir.open(path)
    draft, source = path / DRAFT_NAME, path / SOURCE_NAME
    try:
        remove_database(draft)
        source.unlink(missing_ok=True)
        try:
            found = _fill(draft, lambda store: fill(store, source))
            source.unlink(missing_ok=True)
            draft.rename(directory.kv_path)
            sync(path)
        except BaseException:
            source.unlink(missing_ok=True)
            remove_database(draft)
            raise
    except OSError as error:
        raise DraftError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        directory.close()
    return found


def refuse_draft(path: Path) -> None:
    """Before a node starts. Raises `StartupError`."""
    if (path / DRAFT_NAME).exists():
        raise StartupError(
            f"an import into {path} was cut short: run kvshim import again, or empty the directory"
        )


def _fill(draft: Path, fill: Callable[[Store], _T]) -> _T:
    """Afterwards the draft is one durable file, without what is compacted."""
    store = Store(Backend.open(draft))
    try:
        found = fill(store)
        while store.between_batches():
            pass
        if not store.backend.checkpointer.truncate():
            raise DraftError(f"another program reads {draft}: end it, and try again")
    finally:
        store.close()
    for side in side_files(draft):  # empty, and named after what is about to get another name
        side.unlink(missing_ok=True)
    sync(draft)
    return found


def _refuse_occupied(path: Path) -> None:
    try:
        names = {entry.name for entry in path.iterdir()} if path.exists() else set()
    except OSError as error:
        raise DraftError(f"cannot use {path}: {error.strerror or error}") from error
    if names - _OUR_OWN - {"lost+found"}:
        raise DraftError(f"{path} is not empty: choose a new data directory with --data-dir")
