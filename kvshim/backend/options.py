"""What may be chosen about kv.db; the defaults are what the measurements said. Plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Sizes in bytes. `vfs` names a registered SQLite VFS, as the power-cut tests do."""

    page_size: int = 4096
    wal_bytes_max: int = 64 << 20
    reader_connections: int = 4
    page_cache_bytes: int = 4 << 20
    vfs: str | None = None

    checkpoint_bytes: int = 4 << 20
    """A passive checkpoint runs when the WAL has grown by this much."""

    checkpoint_seconds: float = 5.0
    """And when there is anything to copy and this much time has passed."""
