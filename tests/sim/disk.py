"""One member's simulated disk: the log, written in transactions that take time, and the store.

A crash keeps the transactions that ended, and by chance some of those under way, in order and each
whole or not at all. A power cut also takes the store back to its last checkpoint; a killed process
does not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from raft.core import HardState, Ready
from raft.interface import Index
from tests.raft_core.memory_log import MemoryLog
from tests.sim.machine import Registers


@dataclass(slots=True)
class Disk:
    """`log` and `hard_state` are durable; `store` is as applied, `checkpoint` is durable."""

    log: MemoryLog
    hard_state: HardState
    store: Registers
    checkpoint: Registers
    writing: deque[tuple[Ready, Registers | None]] = field(default_factory=deque)

    def submit(self, ready: Ready, snapshot: Registers | None) -> None:
        """Begin a transaction, behind those under way."""
        self.writing.append((ready, snapshot))

    def finish_one(self) -> Ready:
        """The oldest transaction under way becomes durable."""
        ready, snapshot = self.writing.popleft()
        if ready.snapshot is not None:
            assert snapshot is not None
            self.log.reset(ready.snapshot.index, ready.snapshot.term)
            self.store = snapshot.copy()
            self.checkpoint = snapshot.copy()
        if ready.entries:
            self.log.write(ready.entries)
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        return ready

    def crash(self, finished: int, *, power: bool) -> None:
        """Lose all but the first `finished` transactions under way."""
        for _ in range(min(finished, len(self.writing))):
            self.finish_one()
        self.writing.clear()
        if power:
            self.store = self.checkpoint.copy()

    def make_checkpoint(self) -> None:
        """What is applied becomes durable."""
        self.checkpoint = self.store.copy()

    def cut_log(self, keep: int) -> None:
        """Cut the log, but never beyond what the store holds durably."""
        index = min(self.checkpoint.index, self.store.index) - keep
        if index > self.log.cut[0]:
            self.log.compact(Index(index))
