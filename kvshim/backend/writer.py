"""The writing connection: one transaction a batch, or one for several that nobody reads between.

A batch may leave its transaction open. The one that follows goes on in it, so that pages which
both change are written once and one COMMIT serves all. Nobody sees the difference: whoever wants to
read, copy or checkpoint has it committed first, and what a crash takes from the transaction comes
again from the log. A batch that fails is undone alone.

A transaction stays open only while it is small, and not behind a batch before which somebody read:
where reads and writes take turns, a read finds everything committed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kvshim.backend.gate import Gate
from kvshim.backend.session import Session
from kvshim.errors import StorageError

OPEN_ROWS_MAX: Final = 1_000
"""Rows changed in an open transaction: bounds how long a read waits for its COMMIT."""

OPEN_BYTES_MAX: Final = 256 << 10
"""By how much the data may grow in it."""

_COMMITS_KEPT: Final = 256


class Writer:
    """Batches are one thread's at a time; `settle` is any thread's, but not within a batch."""

    def __init__(
        self,
        session: Session,
        gate: Gate,
        on_failure: Callable[[StorageError], None],
    ) -> None:
        self.session = session
        self.applied_index = 0
        """The applied index that is committed."""
        self.latest_index = 0
        """The one that reads see: later than the committed one while a transaction is open."""
        self._gate = gate
        self._on_failure = on_failure
        self.lost: StorageError | None = None
        """Set when what reads saw was rolled back: then there is no more reading here."""
        self.is_open = False
        """Has a batch left its transaction open?"""
        self._stays_open = False
        self._nested = False
        self._is_read = False
        self._alone = False
        self._rows_before = 0
        self._bytes_before = 0
        self._commits: deque[float] = deque(maxlen=_COMMITS_KEPT)
        self.page_size: int = session.db.pragma("page_size")
        self.pages = 0
        self.free_pages = 0
        self.measure()

    def begin(self, *, stays_open: bool) -> Session:
        """Begin a batch; with `stays_open` it may go on in an open transaction, and leave one."""
        self._gate.enter_write()
        try:
            self._refuse_what_is_lost()
            if self.is_open and not stays_open:
                self._commit()
            if self.is_open:
                self.session.run("SAVEPOINT batch")
                self._nested = True
            else:
                self.session.run("BEGIN IMMEDIATE")
                self._rows_before = self.session.db.total_changes()
                self._bytes_before = self.bytes_in_use
            self._stays_open = stays_open
        except BaseException:
            self.rollback()
            raise
        return self.session

    def end(self, applied_index: int) -> None:
        """End a batch after which the store holds `applied_index`."""
        try:
            if self._nested:
                self.session.run("RELEASE batch")
                self._nested = False
            self.latest_index = applied_index
            self.measure()
            if self._may_stay_open():
                self.is_open = True
            else:
                self._commit()
            self._is_read = False
        except BaseException:
            self._undo()
            raise
        finally:
            self._gate.leave_write()

    def rollback(self) -> None:
        """Give up a batch."""
        try:
            self._undo()
        finally:
            self._gate.leave_write()

    def before_read(self) -> None:
        """Let another connection see all that batches did. Raises `StorageError`."""
        self._is_read = True
        self.settle()

    def settle(self) -> None:
        """Commit what batches have left open. Raises `StorageError`.

        Waits for a batch that goes on in the open transaction, and for no other.
        """
        if self.is_open and self._gate.enter_settling(lambda: self.is_open):
            try:
                self._commit()
            except StorageError as error:
                self._undo()
                self._on_failure(error)
                raise
            finally:
                self._gate.leave_write()
        self._refuse_what_is_lost()

    @contextmanager
    def each_alone(self) -> Iterator[None]:
        """Around a checkpoint: meanwhile, and once more after it, a batch commits itself.

        Where a checkpoint has copied everything the next COMMIT begins the WAL anew and waits for
        the disk: that is for the thread of a batch to do, not for whoever settles.
        """
        self._alone = True
        try:
            yield
        finally:
            self._is_read = True
            self._alone = False

    def commit_seconds(self) -> list[float]:
        """How long each COMMIT took since this was last asked."""
        return [self._commits.popleft() for _ in range(len(self._commits))]

    def measure(self) -> None:
        """Take note of the number of pages."""
        self.pages = self.session.db.pragma("page_count")
        self.free_pages = self.session.db.pragma("freelist_count")

    @property
    def bytes_in_use(self) -> int:
        """Bytes of the database that hold data, as of the last batch."""
        return (self.pages - self.free_pages) * self.page_size

    def _may_stay_open(self) -> bool:
        if not self._stays_open or self._is_read or self._alone:
            return False
        rows = self.session.db.total_changes() - self._rows_before
        grown = self.bytes_in_use - self._bytes_before
        return rows <= OPEN_ROWS_MAX and grown <= OPEN_BYTES_MAX

    def _commit(self) -> None:
        began = time.perf_counter()
        self.session.run("COMMIT")
        self.applied_index = self.latest_index
        self.is_open = False  # Who sees this may read at once.
        self._commits.append(time.perf_counter() - began)

    def _undo(self) -> None:
        """Back to where the batch began; SQLite itself may have gone further, on a full disk."""
        nested, self._nested = self._nested, False
        in_transaction = self.session.db.in_transaction
        if nested and in_transaction:
            self.session.run("ROLLBACK TO batch")
            self.session.run("RELEASE batch")
            return
        if self.is_open:
            self.lost = StorageError("the store lost writes that the log has: start it again")
        self.is_open = False
        if in_transaction:
            self.session.run("ROLLBACK")

    def _refuse_what_is_lost(self) -> None:
        if self.lost is not None:
            raise self.lost
