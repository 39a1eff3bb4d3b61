"""The files that make up a SQLite database, as names in a directory. Any thread."""

from __future__ import annotations

import os
from pathlib import Path


def side_files(path: Path) -> list[Path]:
    """What SQLite may keep beside a database."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def remove_database(path: Path) -> None:
    """Remove a database that nobody has open. Raises `OSError`.

    The file itself goes last: a WAL that was left alone would be taken for the next one's.
    """
    for file in (*side_files(path), path):
        file.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, survive a power cut. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
