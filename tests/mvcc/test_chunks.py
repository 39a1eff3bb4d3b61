"""A chunk of a list: its pairs in key order, whatever order they were written in."""

from __future__ import annotations

import random

import apsw
import pytest

from kvshim.backend import statements as sql
from kvshim.types import KeyRange, LeaseID
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
    assert chunk.rows == len(expected)
    assert chunk.last_key == shuffled[min(rows, KEYS) - 1]
    assert chunk.is_last == (rows > KEYS)


def test_sqlite_walks_the_keys_in_order(driver: Driver) -> None:
    """No ORDER BY stands in the statement: its plan is what keeps the pairs in key order."""
    db = apsw.Connection(str(driver.path), flags=apsw.SQLITE_OPEN_READONLY)
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql.LIVE_CHUNK}", (b"a", b"b"))]
    db.close()
    assert plan == [
        "SEARCH k USING PRIMARY KEY (key>? AND key<?)",
        "SEARCH v USING INTEGER PRIMARY KEY (rowid=?)",
    ]
