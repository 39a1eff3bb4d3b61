"""Copying the WAL into kv.db, never inside a commit.

A thread of its own checkpoints PASSIVE on its own connection: that waits for nobody, but cannot
reset a WAL which overlapping readers keep using. Above `wal_bytes_max` it therefore asks the gate
for a moment without transactions and runs RESTART. A reader from outside that makes even this
impossible is detected, told once, and measured for as long as it lasts.

Durable index: the applied index read before a checkpoint that then copied every frame. SQLite
syncs the WAL before and the database after copying, so this index survives a power cut.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import apsw

from kvshim.backend.gate import Gate
from kvshim.backend.options import BackendOptions
from kvshim.backend.session import Session, storage_error
from kvshim.backend.writer import Writer
from kvshim.errors import StorageError

READERS_WAIT_SECONDS: Final = 1.0
"""How long a RESTART lets our own read transactions end: none lives longer."""

PINNED_AFTER_SECONDS: Final = 2.0
"""A WAL that stands still this long, held back by no reader of ours, is pinned from outside."""

STAYS_AFTER_SECONDS: Final = 0.3
"""Keeping a long WAL back this long, at the same frame, is no shell that only looks in."""

WAL_SLACK: Final = 1.25
"""How far above `wal_bytes_max` the WAL may grow before the writer waits for a checkpoint."""

WRITER_WAIT_SECONDS: Final = 2.0

_BUSY_TIMEOUT_MS: Final = 100
_RETRY_SECONDS: Final = 1.0
_BACKOFF_SECONDS_MAX: Final = 16.0
_FRAME_HEADER_BYTES: Final = 24


class Checkpointer:
    """Runs on the thread "checkpoint" once started; `run_once` may be called without it."""

    def __init__(
        self,
        session: Session,
        gate: Gate,
        options: BackendOptions,
        writer: Writer,
        on_failure: Callable[[StorageError], None],
    ) -> None:
        self._session = session
        self._gate = gate
        self._options = options
        self._writer = writer
        self._on_failure = on_failure
        session.db.set_busy_timeout(_BUSY_TIMEOUT_MS)
        self._frame_bytes = options.page_size + _FRAME_HEADER_BYTES
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ran = threading.Condition()
        self._wal_bytes = 0
        self._stopping = False
        self._worker: threading.Thread | None = None
        self._frames_at_last = 0
        self._behind = True
        self._unfinished = False
        self._stuck_at = -1
        self._stuck_since = 0.0
        self._pinned_since: float | None = None
        self._is_told = False
        self._not_before = 0.0
        self._backoff = _RETRY_SECONDS
        self.durable_index = 0
        self.checkpoints_total = 0
        self.restarts_total = 0
        self.on_wal_pinned: Callable[[float, int], None] | None = None
        self.on_wal_released: Callable[[float], None] | None = None
        self.on_checkpoint: Callable[[float], None] | None = None
        self.on_tick: Callable[[], None] | None = None

    def start(self) -> None:
        """Start the thread."""
        self._worker = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._worker.start()

    def wake(self) -> None:
        """What held the WAL back is gone: look soon."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; a checkpoint under way is finished."""
        self._stopping = True
        self._wake.set()
        if self._worker is not None:
            self._worker.join()

    def wait_for_room(self) -> None:
        """Hold the writer back, before a transaction, while checkpoints cannot keep up with it.

        A reader that pins the WAL, from outside or a copy of the store, must not stop writes: then
        the WAL grows.
        """
        if self.has_room() or self._worker is None:
            return
        self._wake.set()
        with self._ran:
            self._ran.wait_for(self.has_room, timeout=WRITER_WAIT_SECONDS)

    def has_room(self) -> bool:
        """May the writer go on, as far as the WAL's length matters?"""
        limit = self._options.wal_bytes_max * WAL_SLACK
        held = self._pinned_since is not None or self._gate.copying
        return self._wal_bytes <= limit or held

    def committed(self, wal_frames: int) -> None:
        """The writer's commit left the WAL this long. Called inside the commit: only takes note."""
        self._wal_bytes = wal_frames * self._frame_bytes
        self._behind = True
        grown = wal_frames - self._frames_at_last
        if grown < 0 or grown * self._frame_bytes >= self._options.checkpoint_bytes:
            self._wake.set()

    def pinned_seconds(self) -> float:
        """For how long a reader from outside has held the WAL back; 0 when none does."""
        since = self._pinned_since
        return 0.0 if since is None else time.monotonic() - since

    def run_once(self) -> None:
        """Copy what can be copied; reset the WAL if it is too long. Raises `StorageError`."""
        with self._lock, self._writer.each_alone():
            began = time.perf_counter()
            try:
                self._writer.settle()
                self._unfinished = not self._copy()
                self._behind = self._behind or self._unfinished
            except apsw.Error as error:
                raise storage_error(error) from error
            finally:
                with self._ran:
                    self._ran.notify_all()
            if self.on_checkpoint is not None:
                self.on_checkpoint(time.perf_counter() - began)

    def truncate(self) -> bool:
        """Copy everything and empty the WAL, at start and end; False if others are in the way."""
        with self._lock, self._writer.each_alone():
            self._writer.settle()
            applied = self._writer.applied_index
            try:
                self._session.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                return False
            except apsw.Error as error:
                raise storage_error(error) from error
            self.durable_index = max(self.durable_index, applied)
            self._frames_at_last = 0
            self._free()
            return True

    def _run(self) -> None:
        while not self._stopping:
            interval = self._options.checkpoint_seconds
            self._wake.wait(min(interval, _RETRY_SECONDS) if self._unfinished else interval)
            self._wake.clear()
            if self._stopping:
                return
            try:
                # A checkpoint between a COMMIT and the news of its applied index copies everything
                # and yet calls too little durable: that is made good here.
                if self._behind or self._writer.applied_index > self.durable_index:
                    self.run_once()
            except StorageError as error:
                self._on_failure(error)
                return
            if self.on_tick is not None:
                self.on_tick()

    def _copy(self) -> bool:
        """True when all is copied and the WAL is not too long."""
        applied = self._writer.applied_index
        self._behind = False
        try:
            log, copied = self._session.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            return False  # Another program checkpoints just now.
        self.checkpoints_total += 1
        self._frames_at_last = log
        if log == copied:
            self.durable_index = max(self.durable_index, applied)
        if log * self._frame_bytes > self._options.wal_bytes_max:
            return self._restart(log, copied)
        if log == copied:
            self._free()
            return True
        self._watch_for_pin(log, copied)
        return False

    def _restart(self, log: int, copied: int) -> bool:
        """Copy the rest in a moment without transactions, so that the next write starts anew."""
        if time.monotonic() < self._not_before or self._gate.copying:
            return False
        with self._gate.paused(READERS_WAIT_SECONDS) as alone:
            self._writer.settle()
            applied = self._writer.applied_index
            try:
                self._session.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            except apsw.BusyError:
                if alone:
                    self._kept_back(log, copied)
                return False
            self.restarts_total += 1
            self._wal_bytes = 0  # The next write begins it anew.
            self.durable_index = max(self.durable_index, applied)
            self._frames_at_last = 0
            self._free()
            return True

    def _free(self) -> None:
        """Nobody holds the WAL back."""
        if self._is_told and self.on_wal_released is not None:
            self.on_wal_released(self.pinned_seconds())
        self._stuck_at = -1
        self._pinned_since = None
        self._is_told = False
        self._not_before = 0.0
        self._backoff = _RETRY_SECONDS

    def _kept_back(self, log: int, copied: int) -> None:
        """A reader from outside was there when ours were not: the writer need not wait for it."""
        stood_still = self._stood_still(copied)
        self._count_from_here()
        if stood_still < STAYS_AFTER_SECONDS:
            self._not_before = self._stuck_since + STAYS_AFTER_SECONDS
            return
        self._not_before = time.monotonic() + self._backoff
        self._backoff = min(2 * self._backoff, _BACKOFF_SECONDS_MAX)
        self._tell(log)

    def _watch_for_pin(self, log: int, copied: int) -> None:
        patience = max(PINNED_AFTER_SECONDS, self._gate.oldest_read_seconds())
        if self._stood_still(copied) > patience:
            self._count_from_here()
            self._tell(log)

    def _stood_still(self, copied: int) -> float:
        """For how many seconds no checkpoint has come further than this frame."""
        now = time.monotonic()
        if copied != self._stuck_at:
            self._stuck_at, self._stuck_since = copied, now
        return now - self._stuck_since

    def _count_from_here(self) -> None:
        if self._pinned_since is None:
            self._pinned_since = self._stuck_since

    def _tell(self, log: int) -> None:
        if not self._is_told:
            self._is_told = True
            if self.on_wal_pinned is not None:
                self.on_wal_pinned(self.pinned_seconds(), log * self._frame_bytes)
