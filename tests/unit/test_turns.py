"""A conformance test that is marked `alone` meets no other, and nobody overtakes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.turns import turn

SHORT_SECONDS = 0.2
LONG_SECONDS = 20.0


class Item:
    """As much of a test as a turn looks at."""

    def __init__(self, *marks: str) -> None:
        self._marks = marks

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self._marks else None


class Worker:
    """One that runs a single test, which ends when it is told to."""

    def __init__(self, item: Item, directory: Path) -> None:
        self.runs, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(item, directory))
        self._thread.start()

    def end(self) -> None:
        self._may_end.set()

    def join(self) -> None:
        self.end()
        self._thread.join()

    def _run(self, item: Item, directory: Path) -> None:
        with turn(item, directory):  # type: ignore[arg-type]
            self.runs.set()
            self._may_end.wait(LONG_SECONDS)


@contextmanager
def working(*items: Item, directory: Path) -> Iterator[list[Worker]]:
    """Workers that ask for their turn in this order."""
    workers: list[Worker] = []
    try:
        for item in items:
            workers.append(Worker(item, directory))
            workers[-1].runs.wait(SHORT_SECONDS)
        yield workers
    finally:
        for worker in workers:
            worker.join()


def test_others_run_side_by_side(tmp_path: Path):
    with working(Item(), Item(), directory=tmp_path) as workers:
        assert all(worker.runs.wait(LONG_SECONDS) for worker in workers)


@pytest.mark.parametrize("alone_first", [True, False])
def test_one_that_is_alone_meets_nobody(alone_first: bool, tmp_path: Path):
    items = [Item("alone"), Item()] if alone_first else [Item(), Item("alone")]
    with working(*items, directory=tmp_path) as (first, second):
        assert first.runs.wait(LONG_SECONDS)
        assert not second.runs.wait(SHORT_SECONDS)
        first.end()
        assert second.runs.wait(LONG_SECONDS)


def test_nobody_overtakes_one_that_waits_to_be_alone(tmp_path: Path):
    with working(Item(), Item("alone"), Item(), directory=tmp_path) as (first, alone, late):
        assert not alone.runs.is_set()
        assert not late.runs.is_set()
        first.end()
        assert alone.runs.wait(LONG_SECONDS)
        assert not late.runs.is_set()
        alone.end()
        assert late.runs.wait(LONG_SECONDS)
