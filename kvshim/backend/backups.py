"""The last backup of this node's data, noted where `kvshim status` finds it. Any thread.

    <data-dir>/last-backup.json

Whatever makes a backup notes it, once it is complete and durable.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from kvshim.backend.files import sync
from kvshim.errors import StorageError

RECORD_NAME: Final = "last-backup.json"


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """`taken_at` is in Unix seconds, `kind` the command that took it, `path` where it went."""

    taken_at: float
    kind: str
    path: str
    revision: int


def note_backup(data_dir: Path, record: BackupRecord) -> None:
    """Remember it in place of the one before, in one step. Raises `StorageError`."""
    replace_text(data_dir / RECORD_NAME, json.dumps(asdict(record)) + "\n")


def last_backup(data_dir: Path) -> BackupRecord | None:
    """None when there was none, or the note cannot be read: it is for people to look at."""
    try:
        kept = json.loads((data_dir / RECORD_NAME).read_bytes())
        return BackupRecord(
            taken_at=float(kept["taken_at"]),
            kind=str(kept["kind"]),
            path=str(kept["path"]),
            revision=int(kept["revision"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def replace_text(path: Path, text: str) -> None:
    """Write a small file that only its owner can read, durably and in one step.

    Raises `StorageError`.
    """
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        sync(draft)
        draft.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
