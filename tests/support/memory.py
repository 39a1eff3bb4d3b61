"""Directories that no disk keeps, for tests in which durability is not the question.

SQLite syncs there as anywhere, but nobody waits for a platter.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")


def directory_in_memory(prefix: str) -> Path:
    """A new directory in memory, where the machine has such a place; whoever asks removes it."""
    where = _MEMORY if _MEMORY.is_dir() else None
    return Path(tempfile.mkdtemp(prefix=prefix, dir=where))
