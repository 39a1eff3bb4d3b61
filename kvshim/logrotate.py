"""Rotation of one log file by size, as etcd's `--log-rotation-config-json` describes it.

A full file is renamed with the time before its suffix and a new one is begun; old ones are
dropped by count or age and may be compressed, on a thread of their own. Calls to `write` are
serialised by the caller. Touches only the log file and its own backups beside it.
"""

from __future__ import annotations

import glob
import gzip
import os
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from kvshim.config import LogRotation

_DAY_S = 86_400


class RotatingFile:
    """An append-only log file that never grows beyond its limit by more than one line."""

    def __init__(self, path: Path, rotation: LogRotation) -> None:
        self._path = path
        self._rotation = rotation
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._size = path.stat().st_size
        self._tidier: threading.Thread | None = None
        self._lock = threading.Lock()
        self._untidy = False

    def write(self, line: bytes) -> None:
        """Append a line. An unwritable disk loses log lines, never the node."""
        try:
            if self._size and self._size + len(line) > self._rotation.size_bytes_max:
                self._rotate()
            self._file.write(line)
            self._file.flush()
            self._size += len(line)
        except (OSError, ValueError):
            return

    def _rotate(self) -> None:
        self._file.close()
        try:
            os.replace(self._path, self._backup_path())
        finally:  # whatever happened, the log goes on in the file of this name
            self._file = self._path.open("ab")
            self._size = self._path.stat().st_size
        with self._lock:
            self._untidy = True
            if self._tidier is None:
                self._tidier = threading.Thread(
                    target=self._tidy_until_tidy, name="logrotate", daemon=True
                )
                self._tidier.start()

    def _backup_path(self) -> Path:
        now = datetime.now() if self._rotation.local_time else datetime.now(UTC)
        stamp = now.strftime("%Y-%m-%dT%H-%M-%S.%f")
        return self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")

    def wait_until_tidy(self) -> None:
        """Wait for the thread that drops and compresses old files."""
        tidier = self._tidier
        if tidier is not None:
            tidier.join()

    def _tidy_until_tidy(self) -> None:
        """One thread at a time; a rotation during its work gives it another round."""
        while True:
            with self._lock:
                if not self._untidy:
                    self._tidier = None
                    return
                self._untidy = False
            try:
                self._tidy()
            except OSError:  # the next rotation tries again
                continue

    def _tidy(self) -> None:
        backups = self._backups()
        kept = backups[-self._rotation.backups_max :] if self._rotation.backups_max else backups
        oldest = time.time() - self._rotation.age_days_max * _DAY_S
        for backup in backups:
            too_old = self._rotation.age_days_max and backup.stat().st_mtime < oldest
            if backup not in kept or too_old:
                backup.unlink(missing_ok=True)
            elif self._rotation.compress and backup.suffix != ".gz":
                _compress(backup)

    def _backups(self) -> list[Path]:
        """Oldest first: the time in their names sorts them."""
        pattern = f"{glob.escape(self._path.stem)}-????-??-??T*{glob.escape(self._path.suffix)}"
        directory = self._path.parent
        return sorted({*directory.glob(pattern), *directory.glob(pattern + ".gz")})


def _compress(backup: Path) -> None:
    packed = backup.with_name(backup.name + ".gz")
    partial = packed.with_name(packed.name + ".tmp")
    with backup.open("rb") as source, gzip.open(partial, "wb") as target:
        shutil.copyfileobj(source, target)
    os.replace(partial, packed)
    backup.unlink()
