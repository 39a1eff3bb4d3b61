"""The apply thread looks after the store and never misses a call."""

from __future__ import annotations

import threading
from contextlib import nullcontext

from kvshim.apply.machine import ApplyMachine
from kvshim.types import Revision


class IdleStore:
    """A store whose upkeep is asked for again in the moment in which it says that all is done."""

    revision = Revision(1)
    applied_index = 0

    def __init__(self) -> None:
        self.calls = 0
        self.called_again = threading.Event()
        self.machine: ApplyMachine | None = None

    def read(self):
        return nullcontext(self)

    def alarms(self):
        return []

    def auth(self):
        return None

    def between_batches(self) -> bool:
        self.calls += 1
        if self.calls == 1:
            assert self.machine is not None
            self.machine.wake()
        else:
            self.called_again.set()
        return False


def test_a_wake_between_upkeep_and_sleep_is_not_lost():
    store = IdleStore()
    failures: list[BaseException] = []
    store.machine = ApplyMachine(store, lambda _: None, failures.append, lambda _: None)
    store.machine.start()
    try:
        assert store.called_again.wait(5), "the upkeep that was asked for waits for the next write"
    finally:
        store.machine.stop()
    assert failures == []
