"""One member's simulated disk: the log, written in transactions that take time, and the store.

A crash keeps the transactions that ended, and by chance some of those under way, in order and each
whole or not at all. A power cut also takes the store back to its last checkpoint; a killed process
does not. `MemoryDisk` is a model of that; `tests.sim.file_disk` does it with the production log.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

from raft.core import HardState, Ready
from raft.core.log import LogView
from raft.interface import Index
from tests.raft_core.memory_log import MemoryLog
from tests.sim.machine import Registers


class DiskFull(Exception):
    """A transaction had no room; the text is what the operator reads."""


class Disk(ABC):
    """`store` is as applied, `checkpoint` is durable, as are `log` and `hard_state`."""

    def __init__(self, store: Registers) -> None:
        self.store = store
        self.full_stops = 0
        self.writing: deque[tuple[Ready, Registers | None]] = deque()

    @property
    @abstractmethod
    def log(self) -> LogView:
        """What the core reads."""

    @property
    @abstractmethod
    def hard_state(self) -> HardState:
        """As of the last start."""

    @property
    @abstractmethod
    def checkpoint(self) -> Registers:
        """The store as the power would leave it."""

    @abstractmethod
    def start(self) -> None:
        """A process opens the disk."""

    def submit(self, ready: Ready, snapshot: Registers | None) -> None:
        """Begin a transaction, behind those under way."""
        self.writing.append((ready, snapshot))

    @abstractmethod
    def finish(self, count: int) -> list[Ready]:
        """The oldest transactions under way become durable. Raises `DiskFull`."""

    @abstractmethod
    def crash(self, finished: int, *, power: bool) -> None:
        """The process dies, or the power goes, during the transactions under way."""

    @abstractmethod
    def make_checkpoint(self) -> None:
        """What is applied becomes durable."""

    @abstractmethod
    def cut_log(self, keep: int) -> None:
        """Cut the log, but never beyond what the store holds durably."""

    @abstractmethod
    def fill(self) -> None:
        """From now on there is hardly any room."""

    @abstractmethod
    def make_room(self) -> None:
        """There is room again."""

    @abstractmethod
    def close(self) -> None:
        """The run is over."""


class MemoryDisk(Disk):
    """Transactions as one would wish them."""

    def __init__(self, log: MemoryLog, hard_state: HardState, store: Registers) -> None:
        super().__init__(store)
        self._log, self._hard_state = log, hard_state
        self._checkpoint = store.copy()

    @property
    def log(self) -> LogView:
        return self._log

    @property
    def hard_state(self) -> HardState:
        return self._hard_state

    @property
    def checkpoint(self) -> Registers:
        return self._checkpoint

    def start(self) -> None: ...

    def finish(self, count: int) -> list[Ready]:
        return [self._finish_one() for _ in range(count)]

    def _finish_one(self) -> Ready:
        ready, snapshot = self.writing.popleft()
        if ready.snapshot is not None:
            assert snapshot is not None
            self._log.reset(ready.snapshot.index, ready.snapshot.term)
            self.store = snapshot.copy()
            self._checkpoint = snapshot.copy()
        if ready.entries:
            self._log.write(ready.entries)
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state
        return ready

    def crash(self, finished: int, *, power: bool) -> None:
        self.finish(min(finished, len(self.writing)))
        self.writing.clear()
        if power:
            self.store = self._checkpoint.copy()

    def make_checkpoint(self) -> None:
        self._checkpoint = self.store.copy()

    def cut_log(self, keep: int) -> None:
        index = min(self._checkpoint.index, self.store.index) - keep
        if index > self._log.cut[0]:
            self._log.compact(Index(index))

    def fill(self) -> None: ...
    def make_room(self) -> None: ...
    def close(self) -> None: ...
