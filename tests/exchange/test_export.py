"""What of the past is in a file: what a finished compaction leaves, however far it really is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvshim.errors import Compacted
from kvshim.exchange import export as exporting
from kvshim.exchange.export import Export
from kvshim.mvcc.store import Store
from tests.exchange.support import change, compact, export, open_store, versions

WHOLE_PAST = [
    (2, 0, b"a", b"1"),
    (3, 0, b"b", b"1"),
    (3, 1, b"c", b"1"),
    (4, 0, b"a", b"2"),
    (5, 0, b"b", None),
    (6, 0, b"c", None),
    (7, 0, b"c", b"again"),
]
COMPACTED_AT_6 = [
    (4, 0, b"a", b"2"),
    (6, 0, b"c", None),
    (7, 0, b"c", b"again"),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "kv.db")
    change(found, (b"a", b"1"))
    change(found, (b"b", b"1"), (b"c", b"1"))
    change(found, (b"a", b"2"))
    change(found, (b"b", None))
    change(found, (b"c", None))
    change(found, (b"c", b"again"))
    yield found
    found.close()


def test_every_version_while_nothing_is_compacted(store: Store, tmp_path: Path):
    export(store, tmp_path / "s.db")
    assert versions(tmp_path / "s.db") == WHOLE_PAST


def test_what_is_compacted_is_left_out_before_it_is_gone(store: Store, tmp_path: Path):
    compact(store, 6)
    export(store, tmp_path / "before.db")
    assert versions(tmp_path / "before.db") == COMPACTED_AT_6
    while store.between_batches():
        pass
    export(store, tmp_path / "behind.db")
    assert (tmp_path / "behind.db").read_bytes() == (tmp_path / "before.db").read_bytes()


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_one_moment_in_many_steps(
    store: Store, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
):
    """Writes, deletions and a compaction come in between, and nothing of them is in the file."""
    monkeypatch.setattr(exporting, "STEP_ROWS", rows)
    compact(store, 6)
    with (tmp_path / "s.db").open("w+b") as file:
        step_by_step = Export(store, file)
        while step_by_step.step():
            change(store, (b"new", b"1"), (b"a", None))
            change(store, (b"a", b"other"))
            compact(store, store.revision)
            for _ in range(10):
                store.between_batches()
        step_by_step.close()
    assert versions(tmp_path / "s.db") == COMPACTED_AT_6
    while store.between_batches():
        pass
    export(store, tmp_path / "later.db")
    assert len(versions(tmp_path / "later.db")) == 3


def test_compaction_waits_for_as_long_as_it_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exporting, "STEP_ROWS", 1)
    seconds = 0.0
    monkeypatch.setattr(store.pins, "_now", lambda: seconds)
    with (tmp_path / "s.db").open("w+b") as file:
        step_by_step = Export(store, file)
        while step_by_step.step():
            compact(store, change(store, (b"a", b"new")))
            seconds += 20
            store.pins.expire()
            for _ in range(10):
                store.between_batches()
        step_by_step.close()
    assert versions(tmp_path / "s.db") == WHOLE_PAST
    assert store.pins.oldest() is None


def test_a_step_writes_a_bounded_number_of_bytes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exporting, "STEP_BYTES", 10)
    with (tmp_path / "s.db").open("w+b") as file:
        step_by_step = Export(store, file)
        steps = 1
        while step_by_step.step():
            steps += 1
        step_by_step.close()
    assert steps >= len(WHOLE_PAST)
    assert versions(tmp_path / "s.db") == WHOLE_PAST


def test_a_version_that_is_gone_is_never_passed_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without its pin the export notices that compaction has gone by."""
    monkeypatch.setattr(exporting, "STEP_ROWS", 1)
    with (tmp_path / "s.db").open("w+b") as file:
        step_by_step = Export(store, file)
        assert step_by_step.step()
        step_by_step.close()
        compact(store, 7)
        while store.between_batches():
            pass
        with pytest.raises(Compacted):
            step_by_step.step()
