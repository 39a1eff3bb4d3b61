"""A disk that loses power: an apsw VFS that knows which bytes were synced and which only written.

Writes go through to real files (SQLite's own view: the page cache) and into a record: per file the
bytes as of its last xSync, and every write and truncation since, in order. When the power goes, at
a chosen operation, that operation and all later ones raise `PowerCut`; `surviving` then writes
what a disk might hold into another directory. Of what was not synced, each write may be there, be
missing, or be torn at sector boundaries, independent of the order in which it was issued. Bytes
beside a write never change (SQLite's "powersafe overwrite", which its unix VFS assumes too).

A process can also be killed at an operation: that one does not happen, what was written before is
still there for the next process (the page cache lives on), synced or not, until the power goes.

Directories, kept simple: a new file's name is durable with the file's first sync, before that
the file may be missing. A deletion is durable at once when SQLite asks for that, else with the
next sync of the directory; before that the file may come back. As SQLite's unix VFS does, the
first sync of every opened journal or WAL also syncs the directory. Shared memory (`-shm`) belongs
to the process and never survives.

A disk with `room` takes so many more bytes and then is full.

Single-threaded; no fsync reaches the real disk.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

import apsw

JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL

_NUMBERS = itertools.count()


class PowerCut(Exception):
    """The power is gone."""


class Fate(Enum):
    """What a power cut does to the writes that were not synced; one is drawn for each cut."""

    NONE_SURVIVE = auto()
    ALL_SURVIVE = auto()
    PREFIX_SURVIVES = auto()
    EACH_AS_IT_LIKES = auto()
    EACH_SECTOR_AS_IT_LIKES = auto()


@dataclass(slots=True)
class Write:
    """Bytes at an offset."""

    offset: int
    data: bytes


@dataclass(slots=True)
class Truncate:
    """A new length."""

    size: int


Change = Write | Truncate


@dataclass(slots=True)
class FileRecord:
    """One file: `synced` is None until the file itself is sure to be there."""

    synced: bytearray | None
    pending: list[Change] = field(default_factory=list)

    def sync(self) -> None:
        """Everything so far is on the platter."""
        image = self.synced if self.synced is not None else bytearray()
        for change in self.pending:
            perform(image, change)
        self.pending.clear()
        self.synced = image


def perform(image: bytearray, change: Change) -> None:
    """Do to a file's bytes what a write or truncation does."""
    match change:
        case Write(offset, data):
            if len(image) < offset:
                image.extend(bytes(offset - len(image)))
            image[offset : offset + len(data)] = data
        case Truncate(size):
            if len(image) > size:
                del image[size:]
            else:
                image.extend(bytes(size - len(image)))


class Disk(apsw.VFS):
    """The files of one machine until its power goes at operation `cut_at` (None: never).

    The process that uses them is killed at operation `kill_at`; `revive` is for the next one.
    """

    def __init__(
        self, rng: random.Random, cut_at: int | None = None, kill_at: int | None = None
    ) -> None:
        self.name = f"powercut-{next(_NUMBERS)}"
        super().__init__(self.name, "")
        self.rng = rng
        self.cut_at = cut_at
        self.kill_at = kill_at
        self.operations = 0
        self.is_off = False
        self.room: int | None = None
        self.cut_in = ""
        self.fate = rng.choice(list(Fate))
        self.sector = rng.choice([512, 4096])
        self.records: dict[str, FileRecord] = {}
        self.unsynced_deletions: dict[str, FileRecord] = {}
        self.unsynced_names: dict[str, str] = {}
        """New name -> the old one, which may come back (`tests.powercut.names`)."""

    def record(self, path: str) -> FileRecord:
        """What is known of a file; one that is there before its first use is durable."""
        if path not in self.records:
            file = Path(path)
            there = file.exists()
            self.records[path] = FileRecord(bytearray(file.read_bytes()) if there else None)
        return self.records[path]

    def tick(self, what: str) -> bool:
        """Count an operation; True when the power goes during this one."""
        if self.is_off:
            raise PowerCut(what)
        self.operations += 1
        if self.operations not in (self.cut_at, self.kill_at):
            return False
        self.is_off = True
        self.cut_in = what
        if self.operations == self.kill_at:
            raise PowerCut("killed")
        return True

    def take_room(self, size: int) -> None:
        """Raises SQLite's error for a full disk when there is no room for so many bytes."""
        if self.room is None:
            return
        if size > self.room:
            raise apsw.FullError("no room")
        self.room -= size

    def revive(self) -> bool:
        """True when only the process is gone, not the power: another may use the files."""
        if self.operations != self.kill_at:
            return False
        self.kill_at = None
        self.is_off = False
        return True

    def surviving(self, directory: Path) -> None:
        """Write what the disk holds after the cut into `directory`."""
        directory.mkdir()
        for home in {Path(path).parent for path in self.records}:
            for file in home.iterdir():  # never opened here: as the last power cut left it
                if str(file) not in self.records and file.suffix in (".db", ".db-wal"):
                    shutil.copyfile(file, directory / file.name)
        for path, record in {**self.unsynced_deletions, **self.records}.items():
            image = self._survivor(record)
            if image is not None:
                name = path if self._name_survives() else self.unsynced_names.get(path, path)
                (directory / Path(name).name).write_bytes(image)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:  # a temporary file: nobody looks for it after a crash
            return apsw.VFSFile("", name, flags)
        self.record(path)
        return DiskFile(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if self.tick(f"delete {Path(filename).name}"):
            raise PowerCut("delete")
        super().xDelete(filename, syncdir)
        record = self.records.pop(filename, None)
        if record is not None and not syncdir:
            self.unsynced_deletions[filename] = record

    def excepthook(self, *_: Any) -> None:
        """Errors SQLite cannot pass on; after a cut there are some, and they say nothing."""

    def synced_directory(self) -> None:
        """All names are as they are now."""
        self.unsynced_deletions.clear()
        self.unsynced_names.clear()

    def _name_survives(self) -> bool:
        if not self.unsynced_names or self.fate is Fate.ALL_SURVIVE:
            return True
        return self.fate is not Fate.NONE_SURVIVE and self.rng.random() < 0.5

    def _survivor(self, record: FileRecord) -> bytearray | None:
        if record.synced is None and (
            self.fate is Fate.NONE_SURVIVE
            or (self.fate is not Fate.ALL_SURVIVE and self.rng.random() < 0.5)
        ):
            return None
        image = bytearray(record.synced or b"")
        pending = record.pending
        if self.fate is Fate.NONE_SURVIVE:
            pending = []
        elif self.fate is Fate.PREFIX_SURVIVES:
            pending = pending[: self.rng.randint(0, len(pending))]
        for number, change in enumerate(pending):
            for part in self._parts(change, is_last=number == len(pending) - 1):
                perform(image, part)
        return image

    def _parts(self, change: Change, *, is_last: bool) -> Iterator[Change]:
        """The pieces of an unsynced change that made it."""
        match self.fate:
            case Fate.EACH_AS_IT_LIKES:
                torn, kept = self.rng.random() < 0.1, self.rng.random() < 0.5
            case Fate.EACH_SECTOR_AS_IT_LIKES:
                torn, kept = True, False
            case Fate.PREFIX_SURVIVES:
                torn, kept = is_last, True
            case _:
                torn, kept = False, True
        if isinstance(change, Truncate):
            if kept or (torn and self.rng.random() < 0.5):
                yield change
            return
        if not torn:
            if kept:
                yield change
            return
        start, end = change.offset, change.offset + len(change.data)
        while start < end:
            stop = min(end, (start // self.sector + 1) * self.sector)
            if self.rng.random() < 0.5:
                yield Write(start, change.data[start - change.offset : stop - change.offset])
            start = stop


class DiskFile(apsw.VFSFile):
    """An open file on a `Disk`."""

    def __init__(
        self, disk: Disk, path: str, name: str | apsw.URIFilename, flags: list[int]
    ) -> None:
        self.disk = disk
        self.path = path
        self.syncs_directory = bool(flags[0] & JOURNALS and flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        cut = self.disk.tick(f"write {Path(self.path).name}")
        self.disk.take_room(len(data))
        self.disk.record(self.path).pending.append(Write(offset, bytes(data)))
        if cut:
            raise PowerCut("write")
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        cut = self.disk.tick(f"truncate {Path(self.path).name}")
        self.disk.record(self.path).pending.append(Truncate(newsize))
        if cut:
            raise PowerCut("truncate")
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        if self.disk.tick(f"sync {Path(self.path).name}"):
            raise PowerCut("sync")
        self.disk.record(self.path).sync()
        if self.syncs_directory:
            self.disk.synced_directory()
            self.syncs_directory = False

    def excepthook(self, *_: Any) -> None:
        """As for `Disk.excepthook`."""


@contextmanager
def weakened(file_name: str, synchronous: int) -> Iterator[None]:
    """Make every connection to files named so use another `synchronous`, whatever it asks for.

    The sabotage that shows the harness sees a missing fsync: 0 is OFF, 1 is NORMAL.
    """

    def forbid(operation: int, first: str | None, second: str | None, *_: str | None) -> int:
        is_setting = operation == apsw.SQLITE_PRAGMA and (first or "").lower() == "synchronous"
        return apsw.SQLITE_IGNORE if is_setting and second else apsw.SQLITE_OK

    def hook(db: apsw.Connection) -> None:
        if file_name in Path(db.filename).name:
            db.execute(f"PRAGMA synchronous={synchronous}")
            db.authorizer = forbid

    apsw.connection_hooks.append(hook)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(hook)
