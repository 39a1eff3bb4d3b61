"""The data directory: made with care, locked against a second process, named in one place.

    <data-dir>/lock       held for as long as the process lives
    <data-dir>/raft.db    the log (owned by `raft.storage`)
    <data-dir>/kv-<n>.db  the state machine, generation n

Nothing here reads or writes a database. Used once at start, by the thread that starts the node.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from pathlib import Path

from kvshim.backend.files import remove_database
from kvshim.errors import StartupError

LOCK_NAME = "lock"
RAFT_NAME = "raft.db"
FIRST_GENERATION = 1

_HARMLESS = {"lost+found"}
"""What a directory that is a mounted file system of its own holds from the start."""

_GENERATION_FILE = re.compile(r"kv-(\d+)\.db(-wal|-shm|-journal)?")

_OWN_PREFIXES = (LOCK_NAME, RAFT_NAME, "kv-")


class DataDir:
    """An open, locked data directory."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd: int | None = lock_fd

    @classmethod
    def open(cls, path: Path) -> DataDir:
        """Make the directory (mode 0700) if need be, and lock it.

        Raises `StartupError` if it holds something else, is in use, or cannot be used.
        """
        try:
            _make(path)
            _refuse_foreign(path)
            lock_fd = _lock(path / LOCK_NAME)
        except OSError as error:
            raise StartupError(
                f"cannot use data directory {path}: {error.strerror or error}"
            ) from error
        return cls(path, lock_fd)

    @property
    def raft_path(self) -> Path:
        """The replicated log's database."""
        return self.path / RAFT_NAME

    @property
    def kv_path(self) -> Path:
        """The state machine's database, in its first generation."""
        return self.generation_path(FIRST_GENERATION)

    def generation_path(self, generation: int) -> Path:
        """The state machine's database of one generation; each installed snapshot is a new one."""
        return self.path / f"kv-{generation}.db"

    def generations(self) -> set[int]:
        """Every generation of which there is a file. Raises `OSError`."""
        found = map(_GENERATION_FILE.fullmatch, os.listdir(self.path))
        return {int(match[1]) for match in found if match is not None}

    def close(self) -> None:
        """Let another process have the directory."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def remove_other_generations(data_dir: DataDir, generation: int) -> None:
    """Remove the stores that the log does not name, before any is opened. Raises `StartupError`.

    They are left where a snapshot was being taken in or an old store thrown away.
    """
    try:
        for other in data_dir.generations() - {generation}:
            remove_database(data_dir.generation_path(other))
    except OSError as error:
        raise StartupError(
            f"cannot remove an old store in {data_dir.path}: {error.strerror or error}"
        ) from error


def _make(path: Path) -> None:
    if not path.exists():
        path.mkdir(mode=0o700, parents=True)
    if not stat.S_ISDIR(path.stat().st_mode):
        raise StartupError(f"data directory {path} is not a directory")


def _refuse_foreign(path: Path) -> None:
    names = {entry.name for entry in path.iterdir()} - _HARMLESS
    if "member" in names:
        raise StartupError(f"data directory {path} holds etcd's own data: choose another one")
    if names and not any(name.startswith(_OWN_PREFIXES) for name in names):
        raise StartupError(
            f"data directory {path} holds files that are not kvshim's: choose an empty one"
        )


def _lock(path: Path) -> int:
    lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock_fd)
        raise StartupError(
            f"data directory {path.parent} is in use by another kvshim process"
        ) from None
    except OSError:
        os.close(lock_fd)
        raise
    return lock_fd
