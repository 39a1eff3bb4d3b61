"""A chunk of a list: its pairs in key order, whatever order they were written in."""

from __future__ import annotations

import random

import apsw
import pytest

from kvshim.backend import statements as sql
from kvshim.mvcc import view
from kvshim.types import KeyRange, LeaseID, Revision
from tests.mvcc.conftest import Driver

KEYS = 200


@pytest.fixture
def shuffled(driver: Driver) -> list[bytes]:
    """Keys in order, written in another one, some with a lease, some without a value."""
    keys = [b"key%04d" % number for number in range(KEYS)]
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for key in chance.sample(keys, KEYS) + chance.sample(keys, KEYS // 2):
        with driver.store.write() as batch:
            txn = batch.begin()
            txn.put(key, b"v" * chance.choice((0, 10, 1000)), LeaseID(chance.choice((0, 0, 7))))
            txn.finish()
    return keys


@pytest.mark.parametrize("rows", [1, 70, KEYS - 1, KEYS, KEYS + 1])
@pytest.mark.parametrize("end", [b"kez", None])
def test_a_chunk_is_its_pairs_end_to_end(
    driver: Driver, shuffled: list[bytes], rows: int, end: bytes | None
) -> None:
    with driver.store.read() as view:
        at = view.revision
        chunk = view.chunk(KeyRange(b"key", end), at, rows)
        expected = [view.pair(key, at) for key in shuffled[:rows]]
    assert chunk.pairs == b"".join(pair for pair in expected if pair is not None)
    assert chunk.extent.size == len(chunk.pairs)
    assert chunk.extent.rows == len(expected)
    assert chunk.extent.last_key == shuffled[min(rows, KEYS) - 1]
    assert chunk.extent.is_last == (rows > KEYS)


@pytest.mark.parametrize("age", ["head", "old"])
def test_rows_longer_than_those_before_make_no_longer_chunk(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, age: str
) -> None:
    """Given lengths that the rows before do not foretell, then few are read at a time."""
    monkeypatch.setattr(view, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(view, "FIRST_PART_ROWS", 100)
    monkeypatch.setattr(view, "CHUNK_BYTES_MAX", 40_000)
    lengths = [10] * 300 + [15_000] * 20 + [100_000] + [10] * 200
    for mark in (b"a", b"b"):
        if age == "old" or mark == b"a":
            for number, length in enumerate(lengths):
                driver.put(b"key%04d" % number, mark * length)
    at = Revision(len(lengths) + 1)
    with driver.store.read() as reading:
        keys = KeyRange(b"key", b"kez")
        parts = list(reading.parts(keys, at, 10_000))
        chunks = [reading.pairs(part.keys, at) for part in parts]
        expected = [reading.pair(b"key%04d" % number, at) for number in range(len(lengths))]
    assert b"".join(chunks) == b"".join(filter(None, expected))
    assert [part.size for part in parts] == [len(chunk) for chunk in chunks]
    assert [len(chunk) // 100_000 for chunk in chunks if len(chunk) > 40_000] == [1]
    assert len(chunks) < 100


def test_sqlite_walks_the_keys_in_order(driver: Driver) -> None:
    """No ORDER BY stands in the statement: its plan is what keeps the pairs in key order."""
    db = apsw.Connection(str(driver.path), flags=apsw.SQLITE_OPEN_READONLY)
    statement, parameters = sql.LIVE_CHUNK.bind(KeyRange(b"a", b"b"))
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    db.close()
    assert plan == [
        "SEARCH k USING PRIMARY KEY (key>? AND key<?)",
        "SEARCH v USING INTEGER PRIMARY KEY (rowid=?)",
    ]
