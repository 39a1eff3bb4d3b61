"""The commands of the power-cut tests, and a plain model of what the store then holds."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """One command that changes keys: each op is (key, value), or (key, None) to delete."""

    ops: tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Compact:
    """A command that compacts up to a revision."""

    revision: int


Command = Change | Compact


def encode(command: Command) -> bytes:
    """A command as the bytes of a log entry; empty entries are the log's own."""
    return pickle.dumps(command)


def decode(data: bytes) -> Command | None:
    """The command of an entry, None for the log's own."""
    if not data:
        return None
    command = pickle.loads(data)
    assert isinstance(command, Change | Compact)
    return command


@dataclass(frozen=True, slots=True)
class Version:
    """A key's state after one operation; `value` is None when it was deleted."""

    revision: int
    key: bytes
    value: bytes | None
    version: int


@dataclass(slots=True)
class Model:
    """Every version ever made, in order."""

    revision: int = 1
    compacted: int = -1
    versions: list[Version] = field(default_factory=list)
    heads: dict[bytes, Version] = field(default_factory=dict)

    def apply(self, command: Command | None) -> None:
        """Do what the state machine does."""
        match command:
            case Compact(revision):
                self.compacted = revision
            case Change(ops):
                changed = False
                for key, value in ops:
                    head = self.heads.get(key)
                    if value is None and (head is None or head.value is None):
                        continue
                    number = 0 if value is None else self._number(head) + 1
                    made = Version(self.revision + 1, key, value, number)
                    self.heads[key] = made
                    self.versions.append(made)
                    changed = True
                self.revision += changed
            case None:
                pass

    def live(self, revision: int) -> dict[bytes, tuple[bytes, int, int]]:
        """Key -> (value, mod_revision, version) at a revision."""
        found: dict[bytes, Version] = {}
        for made in self.versions:
            if made.revision <= revision:
                found[made.key] = made
        return {
            key: (made.value, made.revision, made.version)
            for key, made in sorted(found.items())
            if made.value is not None
        }

    def history(self) -> list[tuple[int, bytes, bool]]:
        """(revision, key, is a delete) of all that a watch from the compaction on would see."""
        return [
            (made.revision, made.key, made.value is None)
            for made in self.versions
            if made.revision > self.compacted
        ]

    def _number(self, head: Version | None) -> int:
        return 0 if head is None else head.version


def some_command(rng: random.Random, model: Model, serial: int) -> Command:
    """A command that makes sense after those the model has seen."""
    if model.revision > model.compacted + 3 and rng.random() < 0.12:
        return Compact(rng.randint(max(model.compacted, 0) + 1, model.revision - 1))
    ops: list[tuple[bytes, bytes | None]] = []
    for number in range(rng.choice([1, 1, 1, 2, 4])):
        key = b"key-%02d" % rng.randrange(40)
        if rng.random() < 0.25:
            ops.append((key, None))
        else:
            size = rng.choice([5, 100, 1500, 9000])
            ops.append((key, (b"%d.%d " % (serial, number)).ljust(size, b"v")))
    return Change(tuple(ops))
