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
from kvshim.server import lessor, proposer
from kvshim.watch import batch, catchup, hub, outbox, recent
from tests.powercut import names
from tests.sim.world import World

LEASE_CHECKPOINT_SECONDS = 2
"""In place of five minutes, so that short leases get checkpoints."""

SMALL = (
    (catchup, "SLICE_BYTES", 150),
    (outbox, "QUEUE_BYTES_MAX", 4_000),
    (outbox, "QUEUE_BYTES_RESUME", 500),
    (recent, "RECENT_EVENTS_MAX", 5),
    (batch, "RESPONSE_BYTES_TARGET", 200),
)
"""Bounds of the watch room, so that few events are already many."""


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
def threadless(world: World) -> Iterator[None]:
    """See the module; what `tests.powercut.names` sees is seen too."""
    still = SimpleNamespace(perf_counter=lambda: 0.0, monotonic=lambda: 0.0, time=lambda: 0.0)
    # A million lives a second: the ids of two lives of a process never meet.
    calendar = SimpleNamespace(time=lambda: world.now_us / 1e3)
    even = SimpleNamespace(random=lambda: 0.5)
    patches: list[tuple[Any, str, Any]] = [
        (checkpointer.Checkpointer, "start", lambda _: None),
        (store, "threading", SimpleNamespace(Thread=AtOnce, Lock=threading.Lock)),
        (checkpointer, "time", still),
        (compaction, "time", still),
        (hub, "time", still),
        (hub, "random", even),
        (proposer, "time", calendar),
        (lessor, "CHECKPOINT_SECONDS", LEASE_CHECKPOINT_SECONDS),
        *SMALL,
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
