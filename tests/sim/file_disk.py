"""A member's disk with the production `LogStorage` on files that lose power (`tests.powercut`).

A crash strikes at one of the writes or fsyncs of a transaction: what was not synced may be there,
be missing or be torn; what the core was once shown must be there. The store is still a model, but
its files are like the real ones: each has a generation, and the log alone says which is in use. The
log is cut while entries are written.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from raft.core import HardState, Ready
from raft.database import LogOptions
from raft.interface import Index, LogError, Term
from raft.storage import LogStorage
from tests.powercut.vfs import Disk as Platter
from tests.sim.disk import Disk, DiskFull
from tests.sim.machine import Registers
from tests.support.memory import directory_in_memory

CLUSTER: Final = 7
STEPS_MAX: Final = 10
"""About the steps of a small transaction; a crash comes at one of them, or soon afterwards."""
WAL_BYTES_MAX: Final = 60_000
SLICE: Final = 3


class FileDisk(Disk):
    """Files from `start` to `close`. A store at index 0 is a newcomer's, whose log is empty."""

    def __init__(self, number: int, random: Random, store: Registers) -> None:
        super().__init__(store)
        self._number, self._random = number, random
        self._files = {1: store.copy()}
        self._in_use = 1
        self._keep = random.choice((0, 0, 5))
        self._lives = 0
        self._shown = (Index(0), Term(0), Term(0))
        self._platter: Platter | None = None
        self._root = self._home = Path()
        self._log: LogStorage | None = None

    @property
    def log(self) -> LogStorage:
        assert self._log is not None
        return self._log

    @property
    def hard_state(self) -> HardState:
        return self.log.hard_state

    @property
    def checkpoint(self) -> Registers:
        return self._files[self._in_use]

    @property
    def durable_index(self) -> Index:
        """How far the log may be cut."""
        return self.checkpoint.index

    def start(self) -> None:
        if self._platter is None:
            self._platter = Platter(self._random)
            self._root = directory_in_memory("sim-")
            self._home = self._root / "0"
            self._home.mkdir()
            self._open()
            self._begin()
            self._show()
            return
        while self._log is None:
            power = self._doom(STEPS_MAX) if self._random.random() < 0.05 else False
            try:
                self._open()
                self._platter.cut_at = self._platter.kill_at = None
            except LogError:
                if self._room is None:
                    raise
                self.make_room()  # it does not start on a full disk: somebody makes room first
            except Exception:
                if not self._platter.is_off:
                    raise
            if self._log is None:
                self._die(power=power)
        if self.log.generation != self._in_use:
            self._use(self.log.generation)
        self._check_shown()
        self._show()

    def finish(self, count: int) -> list[Ready]:
        waiting = [self.writing.popleft() for _ in range(count)]
        try:
            self._persist(waiting)
        except LogError as error:
            if self._room is None:
                raise
            self.full_stops += 1
            self._die(power=False)
            raise DiskFull(str(error)) from error
        self._show()
        return [ready for ready, _ in waiting]

    def crash(self, finished: int, *, power: bool) -> None:
        waiting = list(self.writing)
        transactions = [some for some in (waiting[:finished], waiting[finished:]) if some]
        self._doom(STEPS_MAX * max(len(transactions), 1), power=power)
        try:
            for some in transactions:
                self._persist(some)
            if not waiting and self._random.random() < 0.2:
                self.log.checkpoint()
        except Exception:
            assert self._platter is not None
            if not self._platter.is_off and self._room is None:
                raise
        self._die(power=power)

    def make_checkpoint(self) -> None:
        self._files[self._in_use] = self.store.copy()

    def cut_log(self, keep: int) -> None:
        self._keep = keep

    def fill(self) -> None:
        if self._platter is not None:
            self._platter.room = self._random.randrange(30_000)

    def make_room(self) -> None:
        if self._platter is not None:
            self._platter.room = None

    def close(self) -> None:
        if self._platter is not None:
            self._platter.is_off = True
            if self._log is not None:
                self._log.abandon()
            self._log = None
            self._platter.unregister()
            shutil.rmtree(self._root)

    @property
    def _room(self) -> int | None:
        assert self._platter is not None
        return self._platter.room

    def _open(self) -> None:
        assert self._platter is not None
        options = LogOptions(vfs=self._platter.name)
        self._log = LogStorage.open(self._home / "raft.db", options)

    def _begin(self) -> None:
        if self.store.index == 0:
            self.log.set_identity(CLUSTER, self._number)
        else:
            term = Term(1)
            self.log.bootstrap(CLUSTER, self._number, cut_index=Index(1), cut_term=term, term=term)

    def _show(self) -> None:
        """The core sees this log, and may tell others what is in it."""
        log = self.log
        self._shown = (log.last_index, log.last_term, log.hard_state.term)

    def _may_replace(self, waiting: Sequence[tuple[Ready, Registers | None]]) -> None:
        """A write that may have happened replaces what was shown."""
        last, _, term = self._shown
        for ready, snapshot in waiting:
            if snapshot is not None or (ready.entries and ready.entries[0].index <= last):
                self._shown = (Index(0), Term(0), term)

    def _check_shown(self) -> None:
        last, last_term, term = self._shown
        log = self.log
        assert log.hard_state.term >= term, f"term {term} was forgotten for {log.hard_state.term}"
        assert log.last_index >= last, f"entry {last} is lost, the log ends at {log.last_index}"
        if last >= log.first_index - 1 and last > 0:
            assert log.term_at(last) == last_term, f"entry {last} of term {last_term} is lost"

    def _persist(self, waiting: Sequence[tuple[Ready, Registers | None]]) -> None:
        """One transaction for all of them."""
        generation = None
        for ready, snapshot in waiting:
            if ready.snapshot is not None:
                assert snapshot is not None
                generation = self._in_use + 1
                self._files[generation] = snapshot.copy()
        self._may_replace(waiting)
        readies = [ready for ready, _ in waiting]
        self.log.write(
            readies,
            cut_through=self._cut_through() if generation is None else None,
            generation=generation,
        )
        if generation is not None:
            self._use(generation)
        if self.log.wal_bytes > WAL_BYTES_MAX:
            self.log.checkpoint()

    def _cut_through(self) -> Index | None:
        index = self.log.cuttable(self.durable_index, self._keep, 1 << 30, SLICE)
        return index if index >= self.log.first_index else None

    def _use(self, generation: int) -> None:
        self._in_use = generation
        self._files = {generation: self._files[generation]}
        self.store = self.checkpoint.copy()

    def _doom(self, steps: int, *, power: bool | None = None) -> bool:
        """Let the process or the power end during one of the next steps."""
        platter = self._platter
        assert platter is not None
        if power is None:
            power = self._random.random() < 0.5
        at = platter.operations + self._random.randint(1, steps)
        platter.cut_at, platter.kill_at = (at, None) if power else (None, at)
        return power

    def _die(self, *, power: bool) -> None:
        platter = self._platter
        assert platter is not None
        platter.is_off = True
        if self._log is not None:
            self._log.abandon()
        self._log = None
        self.writing.clear()
        if not power:
            platter.is_off, platter.kill_at = False, None
            return
        self._lives += 1
        old, self._home = self._home, self._root / f"{self._lives}"
        platter.surviving(self._home)
        platter.unregister()
        shutil.rmtree(old)
        self._platter = Platter(self._random)
        self._platter.room = platter.room
        self.store = self.checkpoint.copy()
