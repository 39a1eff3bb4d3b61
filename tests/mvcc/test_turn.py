"""Short reads of one turn of the event loop share a snapshot, and never an old one."""

import asyncio

import apsw
import pytest

from kvshim.errors import CorruptStore
from kvshim.mvcc import turn
from kvshim.mvcc.turn import TurnReads
from kvshim.mvcc.view import ReadView
from tests.mvcc.conftest import Driver

KEY = b"/a"
NOT_BUSY = 0


def value(view: ReadView) -> bytes | None:
    found = view.get(KEY)
    return found and found.value


def itself(view: ReadView) -> ReadView:
    return view


async def next_turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.fixture
def reads(driver: Driver) -> TurnReads:
    return TurnReads(driver.store)


async def test_reads_of_a_turn_share_a_snapshot_and_the_next_turn_has_its_own(reads: TurnReads):
    first = reads.read(itself)
    assert reads.read(itself) is first
    await next_turn()
    assert reads.read(itself) is not first


async def test_what_was_committed_within_the_turn_is_read(driver: Driver, reads: TurnReads):
    for number in range(3):
        written = b"%d" % number
        with driver.store.write() as batch:
            txn = batch.begin()
            txn.put(KEY, written, 0)
            txn.finish()
            batch.set_applied(driver.store.applied_index + 1, 1)
        assert reads.read(value) == written
        assert reads.read(value) == written


async def test_no_snapshot_outlives_its_turn(driver: Driver, reads: TurnReads):
    """One that did would keep the WAL from beginning anew, and let it grow."""
    driver.txn(("put", KEY, b"1", 0))
    reads.read(value)
    await next_turn()
    outside = apsw.Connection(str(driver.store.backend.path))
    (outcome,) = outside.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert outcome == (NOT_BUSY, 0, 0)


async def test_damage_that_a_read_finds_is_reported_and_the_next_read_goes_on(
    driver: Driver, reads: TurnReads
):
    told: list[CorruptStore] = []
    driver.store.on_corrupt = told.append
    damage = CorruptStore("a bad page")

    def find(_: ReadView) -> None:
        raise damage

    reads.read(value)
    with pytest.raises(CorruptStore):
        reads.read(find)
    assert told == [damage]
    assert reads.read(value) is None


async def test_a_turn_that_reads_for_long_says_so_until_it_ends(
    reads: TurnReads, monkeypatch: pytest.MonkeyPatch
):
    """By a clock of its own: on a busy machine any turn is long."""
    now = 100.0
    monkeypatch.setattr(turn, "perf_counter", lambda: now)
    assert not reads.is_long
    reads.read(itself)
    now += turn.TURN_SECONDS_MAX / 2
    assert not reads.is_long
    reads.read(itself)
    now += turn.TURN_SECONDS_MAX
    assert reads.is_long
    await next_turn()
    assert not reads.is_long
