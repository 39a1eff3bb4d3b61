"""Calls of `os` on the files of a simulated disk: they fail with its power, and are seen by it.

The production code makes, renames, removes and syncs files beside SQLite, when a snapshot comes
and goes. Within `watched` these calls, for a file in a directory that `home` gave to a `Disk`, are
operations of that disk, at which the power may go. A new name, or the end of an old one, is durable
with the next sync of the directory. All other files are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.powercut.vfs import Disk, FileRecord, PowerCut, Write

_SUFFIXES = (".db", "-wal", "-journal", ".tmp")

_homes: dict[str, Disk] = {}
_real_open, _real_close = os.open, os.close
_real_rename, _real_unlink, _real_fsync = os.rename, os.unlink, os.fsync
_open: dict[int, str] = {}


@contextmanager
def home(directory: Path, disk: Disk) -> Iterator[None]:
    """The files in this directory are on this disk."""
    settle(directory, disk)
    try:
        yield
    finally:
        leave(directory)


def settle(directory: Path, disk: Disk) -> None:
    """As `home`, until `leave`."""
    _homes[str(directory)] = disk


def leave(directory: Path) -> None:
    """The files in this directory are on no simulated disk any more."""
    _homes.pop(str(directory), None)


@contextmanager
def watched() -> Iterator[None]:
    """See the module. Not to be nested."""
    patches = {"open": _os_open, "close": _os_close, "rename": _os_rename}
    patches |= {"unlink": _os_unlink, "fsync": _os_fsync}
    for name, function in patches.items():
        setattr(os, name, function)
    try:
        yield
    finally:
        os.open, os.close = _real_open, _real_close
        os.rename, os.unlink, os.fsync = _real_rename, _real_unlink, _real_fsync
        _open.clear()


def write_file(path: Path, data: bytes) -> None:
    """A new file as somebody writes it who does not sync it."""
    disk = _disk_of(str(path))
    assert disk is not None
    cut = disk.tick(f"write {path.name}")
    disk.records[str(path)] = FileRecord(None, [Write(0, data)])
    if cut:
        raise PowerCut("write")
    path.write_bytes(data)


def _disk_of(path: str) -> Disk | None:
    """The disk of a file that outlives the process."""
    return _homes.get(os.path.dirname(path)) if path.endswith(_SUFFIXES) else None


def _os_open(path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
    name = os.fspath(path)
    disk = _disk_of(name) if isinstance(name, str) else None
    if disk is not None and flags & os.O_CREAT and not Path(name).exists():
        cut = disk.tick(f"make {Path(name).name}")
        disk.records[name] = FileRecord(None)
        if cut:
            raise PowerCut("open")
    fd = _real_open(path, flags, mode, **rest)
    if isinstance(name, str) and (disk is not None or name in _homes):
        _open[fd] = name
    return fd


def _os_close(fd: int) -> None:
    _open.pop(fd, None)
    _real_close(fd)


def _os_rename(old: Any, new: Any, **rest: Any) -> None:
    before, after = os.fspath(old), os.fspath(new)
    disk = _disk_of(before)
    if disk is None:
        _real_rename(old, new, **rest)
        return
    record = disk.record(before)
    cut = disk.tick(f"rename {Path(before).name}")
    _real_rename(old, new, **rest)
    del disk.records[before]
    disk.records[after] = record
    disk.unsynced_names[after] = before
    if cut:
        raise PowerCut("rename")


def _os_unlink(path: Any, **rest: Any) -> None:
    name = os.fspath(path)
    disk = _disk_of(name)
    if disk is None or not Path(name).exists():
        _real_unlink(path, **rest)
        return
    record = disk.record(name)
    cut = disk.tick(f"delete {Path(name).name}")
    _real_unlink(path, **rest)
    del disk.records[name]
    disk.unsynced_deletions[name] = record
    if cut:
        raise PowerCut("unlink")


def _os_fsync(fd: int) -> None:
    name = _open.get(fd)
    if name is None:
        _real_fsync(fd)
        return
    disk = _homes.get(name)
    if disk is not None:
        if disk.tick("sync the directory"):
            raise PowerCut("fsync")
        disk.synced_directory()
        return
    disk = _disk_of(name)
    assert disk is not None
    if disk.tick(f"sync {Path(name).name}"):
        raise PowerCut("fsync")
    disk.record(name).sync()
