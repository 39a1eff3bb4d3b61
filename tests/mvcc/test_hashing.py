"""HashKV: etcd's value for the same history, however far physical compaction is.

`golden/hashkv.jsonl` is a random history played against etcd 3.7.3, with what its HashKV answered
on the way: (hash, compact revision, revision hashed), or the text of its error.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvshim.errors import Compacted, RequestError
from kvshim.mvcc import hashing
from kvshim.mvcc.hashing import hash_all, hash_kv, hash_store
from kvshim.mvcc.records import LeaseRecord
from kvshim.mvcc.view import ReadView
from kvshim.types import LeaseID
from tests.mvcc.conftest import Driver

GOLDEN = Path(__file__).parent / "golden" / "hashkv.jsonl"


def answer(driver: Driver, revision: int) -> object:
    with driver.store.read() as view:
        try:
            return list(hash_kv(view, revision))
        except RequestError as error:
            return error.message


@pytest.mark.parametrize("upkeep", ["at once", "never"])
def test_the_value_is_that_of_etcd(driver: Driver, upkeep: str) -> None:
    hashes = 0
    compacted = set()
    for line in GOLDEN.read_text().splitlines():
        match json.loads(line):
            case ["put", key, length, letter, lease]:
                driver.put(key.encode(), letter.encode() * length, lease)
            case ["delete", start, end]:
                driver.delete(start.encode(), end.encode())
            case ["both", key]:
                driver.txn(("put", key.encode(), b"t", 0), ("delete", key.encode(), b""))
            case ["compact", revision]:
                driver.compact(revision)
                compacted.add(revision)
                if upkeep == "at once":
                    driver.upkeep()
            case ["hash", revision, _] if upkeep == "never" and revision in compacted:
                pass  # etcd answers with the hash that its finished compaction made.
            case ["hash", revision, expected]:
                assert answer(driver, revision) == expected, line
                hashes += 1
    assert hashes > 100


def test_hashing_in_steps_gives_the_same_value_whatever_is_written_meanwhile(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        driver.put(b"key%02d" % (number % 40), b"v" * number)
    driver.delete(b"key10", b"key20")
    driver.compact(100)
    with driver.store.read() as view:
        expected = hash_kv(view, 250)
    steps: list[int] = []
    step = hashing.HashRun.step

    def disturbed(run: hashing.HashRun, view: ReadView, *_limits: int) -> None:
        step(run, view, bytes_max=2000)
        if run.at != 250:
            return  # The hash that a compaction makes meanwhile.
        steps.append(1)
        driver.put(b"key%02d" % (len(steps) % 40), b"new")
        if len(steps) == 3:
            driver.compact(driver.model.revision)
        driver.upkeep()

    monkeypatch.setattr(hashing.HashRun, "step", disturbed)
    current, result = hash_store(driver.store, 250)
    assert result == expected
    assert current == 302
    assert len(steps) > 10
    driver.upkeep()
    assert driver.store.physically_compacted == driver.model.compact_revision


def test_a_hash_whose_versions_are_gone_is_given_up(driver: Driver) -> None:
    for number in range(100):
        driver.put(b"key%02d" % (number % 10), b"v" * 100)
    with driver.store.read() as view:
        run = hashing.HashRun.of_revision(view, 50)
        run.step(view, bytes_max=1000)
    driver.compact(driver.model.revision)
    driver.upkeep()
    with driver.store.read() as view, pytest.raises(Compacted):
        run.step(view)


def test_a_compacted_and_a_future_revision_are_refused(driver: Driver) -> None:
    for value in (b"1", b"2", b"3"):
        driver.put(b"k", value)
    driver.compact(3)
    assert "compacted" in str(answer(driver, 2))
    assert "future" in str(answer(driver, 5))
    assert isinstance(answer(driver, 3), list)


def test_a_compaction_that_overtook_another_leaves_no_hash(driver: Driver) -> None:
    """As in etcd, where the second one cannot hash what the first has not finished."""
    for value in (b"1", b"2", b"3", b"4"):
        driver.put(b"k", value)
    driver.compact(3)
    driver.compact(5)
    driver.upkeep()
    assert answer(driver, 5)[1:] == [5, 5]


def test_below_revision_0_there_is_nothing_to_hash(driver: Driver) -> None:
    driver.put(b"k", b"v")
    assert answer(driver, -1) == [1084519789, -1, -1]


def test_the_hash_of_everything_sees_leases_and_alarms(driver: Driver) -> None:
    def everything() -> int:
        with driver.store.read() as view:
            return hash_all(view)

    seen = {everything()}
    driver.put(b"k", b"v")
    seen.add(everything())
    with driver.store.write() as batch:
        batch.lease_put(LeaseRecord(LeaseID(5), 60))
    seen.add(everything())
    with driver.store.write() as batch:
        batch.alarm_put(2**63 + 1, 1)
    seen.add(everything())
    assert len(seen) == 4
    driver.put(b"k", b"w")
    driver.compact(3)
    before = everything()
    driver.upkeep()
    assert everything() == before
