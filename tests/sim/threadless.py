"""The production code without its threads and clocks, for a simulation that repeats itself.

What a thread would do in the background is done at once or by the simulation itself, and time
stands still within a step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from kvshim.backend import checkpointer
from kvshim.mvcc import compaction, store
from kvshim.server import lessor
from kvshim.watch import hub
from tests.powercut import names

LEASE_CHECKPOINT_SECONDS = 4
"""In place of five minutes, so that short leases get checkpoints."""


class AtOnce:
    """A thread that has done its work when `start` returns."""

    def __init__(self, target: Callable[[], object], **_: Any) -> None:
        self._target = target

    def start(self) -> None:
        """Do it."""
        self._target()

    def is_alive(self) -> bool:
        """Never."""
        return False

    def join(self) -> None:
        """Nothing is left to wait for."""


@contextmanager
def threadless() -> Iterator[None]:
    """See the module; what `tests.powercut.names` sees is seen too."""
    still = SimpleNamespace(perf_counter=lambda: 0.0, monotonic=lambda: 0.0, time=lambda: 0.0)
    patches: list[tuple[Any, str, Any]] = [
        (checkpointer.Checkpointer, "start", lambda _: None),
        (store, "threading", SimpleNamespace(Thread=AtOnce, Lock=threading.Lock)),
        (checkpointer, "time", still),
        (compaction, "time", still),
        (hub, "time", still),
        (lessor, "CHECKPOINT_SECONDS", LEASE_CHECKPOINT_SECONDS),
    ]
    saved = [(target, name, getattr(target, name)) for target, name, _ in patches]
    try:
        for target, name, value in patches:
            setattr(target, name, value)
        with names.watched():
            yield
    finally:
        for target, name, value in saved:
            setattr(target, name, value)
