"""Files of snapshots that came, as generations of the store: checked, kept, opened, thrown away.

A file becomes a generation by one rename, after it was checked and synced, under a number that no
file has or had. It is in use once the log names it. One that was overtaken by what has been applied
is never named: it goes when the next one comes, or at the next start. Any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from kvshim.apply.members import membership_of
from kvshim.backend.backend import Backend
from kvshim.backend.copying import check_copy
from kvshim.backend.datadir import DataDir
from kvshim.backend.files import remove_database, sync
from kvshim.backend.options import BackendOptions
from kvshim.errors import StorageError
from kvshim.mvcc.store import read_copied
from kvshim.mvcc.view import ReadView
from raft.interface import Index, LogError, Membership, SnapshotMeta


class Generations:
    """The generations in one data directory; the log names `current` at the start."""

    def __init__(self, data_dir: DataDir, current: int, options: BackendOptions) -> None:
        self._data_dir = data_dir
        self._options = options
        self._lock = threading.Lock()
        self._newest = current
        self._accepted: dict[int, SnapshotMeta] = {}

    def accept(
        self,
        path: Path,
        snapshot: SnapshotMeta,
        applied: Index,
        check: Callable[[ReadView], None] | None = None,
    ) -> int:
        """Check a file in the same file system and make it a generation, durably; its number.

        The file is gone from where it was. What is there already is not made again. Raises
        `LogError` when it does not hold `snapshot`; the file is then left to the caller. `check`
        may refuse more by `StorageError`.
        """
        try:
            with self._lock:
                return self._accept(path, snapshot, applied, check)
        except StorageError as error:
            raise LogError(f"a snapshot was refused: {error}") from error
        except OSError as error:
            raise LogError(f"a snapshot cannot be kept: {error.strerror or error}") from error

    def _accept(
        self,
        path: Path,
        snapshot: SnapshotMeta,
        applied: Index,
        check: Callable[[ReadView], None] | None,
    ) -> int:
        def look(view: ReadView) -> Membership:
            if check is not None:
                check(view)
            return membership_of(view)

        self._remove_overtaken(applied)
        for generation, known in self._accepted.items():
            if known == snapshot:
                remove_database(path)
                return generation
        index, term, membership = check_copy(
            path, self._options, lambda session: read_copied(session, look)
        )
        if (index, term) != (snapshot.index, snapshot.term):
            raise StorageError(
                f"it holds entry {index} of term {term}, not {snapshot.index} of {snapshot.term}"
            )
        if membership != snapshot.membership:
            raise StorageError("its members are not those that it was sent for")
        generation = max({self._newest, *self._data_dir.generations()}) + 1
        path.rename(self._data_dir.generation_path(generation))
        sync(self._data_dir.path)
        self._newest = generation
        self._accepted[generation] = snapshot
        return generation

    def _remove_overtaken(self, applied: Index) -> None:
        """Between the moment in which the log names a snapshot and its use nothing beyond it is
        applied: so these are not named, and never will be. One of just what has been applied may
        yet replace a damaged store."""
        for generation, snapshot in list(self._accepted.items()):
            if snapshot.index < applied:
                remove_database(self._data_dir.generation_path(generation))
                del self._accepted[generation]

    def open(self, generation: int) -> Backend:
        """Open what the log names now. Raises `StorageError`."""
        path = self._data_dir.generation_path(generation)
        if not path.exists():
            raise StorageError(f"{path}, which the log names, is missing")
        with self._lock:
            self._accepted.pop(generation, None)
        return Backend.open(path, self._options)
