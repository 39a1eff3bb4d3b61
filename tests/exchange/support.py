"""A store of one's own, and the file that it is exported to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kvshim.backend.backend import Backend
from kvshim.bbolt.reader import BboltFile
from kvshim.exchange.buckets import parse_place
from kvshim.exchange.export import Export
from kvshim.mvcc.store import Store
from kvshim.pb.etcd.kv_pb2 import KeyValue
from kvshim.types import KeyRange, LeaseID, Revision

Version = tuple[int, int, bytes, bytes | None]
"""(revision, sub, key, value), None for a deletion."""


def open_store(path: Path) -> Store:
    return Store(Backend.open(path))


def change(store: Store, *changes: tuple[bytes, bytes | None]) -> Revision:
    """One command of puts, and of deletions where the value is None; its revision."""
    with store.write() as batch:
        txn = batch.begin()
        for key, value in changes:
            if value is None:
                txn.delete_range(KeyRange.of(key, b""))
            else:
                txn.put(key, value, LeaseID(0))
        txn.finish()
        return batch.revision


def compact(store: Store, revision: int) -> None:
    """Logically only."""
    with store.write() as batch:
        batch.compact(revision)


def export(store: Store, path: Path) -> None:
    with path.open("w+b") as file:
        exporting = Export(store, file)
        try:
            while exporting.step():
                pass
        finally:
            exporting.close()


def versions(path: Path) -> list[Version]:
    with BboltFile.open(path) as file:
        return list(_versions(file.bucket(b"key")))


def _versions(pairs: Iterable[tuple[bytes, bytes]]) -> Iterable[Version]:
    for place, value in pairs:
        revision, sub, deleted = parse_place(place)
        pair = KeyValue.FromString(value)
        yield revision, sub, pair.key, None if deleted else pair.value
