"""The gate: while a checkpoint asks for a pause, new transactions wait and old ones end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from kvshim.backend.gate import Gate
from tests.backend.support import eventually


class Attempt:
    """Something that may wait, on a thread of its own."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.done = threading.Event()

        def run() -> None:
            action()
            self.done.set()

        threading.Thread(target=run, daemon=True).start()


@pytest.mark.parametrize("kind", ["read", "write"])
def test_new_transactions_wait_for_the_end_of_a_pause(kind: str) -> None:
    gate = Gate()
    with gate.paused(1) as alone:
        assert alone
        attempt = Attempt(gate.enter_read if kind == "read" else gate.enter_write)
        assert not attempt.done.wait(0.1)
    assert attempt.done.wait(5)


def test_a_pause_waits_for_the_writer_and_for_readers() -> None:
    gate = Gate()
    gate.enter_write()
    ticket = gate.enter_read()
    results: list[bool] = []

    def pause() -> None:
        with gate.paused(5) as alone:
            results.append(alone)

    attempt = Attempt(pause)
    assert not attempt.done.wait(0.05)
    gate.leave_write()
    assert not attempt.done.wait(0.05)
    gate.leave_read(ticket)
    assert attempt.done.wait(5)
    assert results == [True]


def test_a_reader_that_does_not_end_is_not_waited_for_longer_than_asked() -> None:
    gate = Gate()
    gate.enter_read()
    with gate.paused(0.05) as alone:
        assert not alone
    assert gate.reads() == 1
    assert eventually(lambda: gate.oldest_read_seconds() > 0.05)
