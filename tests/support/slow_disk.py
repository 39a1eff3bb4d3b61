"""kvshim on a disk whose fsyncs take their time; run as a program in place of the `kvshim` command.

Every fsync of the process waits first: SQLite's, for the log, both checkpoints and new files, by a
VFS that becomes the default one, and Python's own. How long comes from the environment, in
milliseconds: `SLOW_DISK_MS` "20 50" is the range of all, `SLOW_DISK_SPIKE_MS` "300" that of one in
`SLOW_DISK_SPIKE_EVERY`. An fsync lets other threads run, as a real one does.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

VARIABLE, SPIKE, SPIKE_EVERY = "SLOW_DISK_MS", "SLOW_DISK_SPIKE_MS", "SLOW_DISK_SPIKE_EVERY"
BASE = "unix"
# -P: what stands beside this file is no library of the program's.
PROGRAM = (sys.executable, "-P", str(Path(__file__).resolve()))


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow a disk is; a `spike_ms` of 0 is none."""

    least_ms: int
    most_ms: int
    spike_ms: int = 0
    spike_every: int = 100

    def environment(self) -> dict[str, str]:
        """For a process that runs `PROGRAM`."""
        return {
            VARIABLE: f"{self.least_ms} {self.most_ms}",
            SPIKE: str(self.spike_ms),
            SPIKE_EVERY: str(self.spike_every),
        }

    @classmethod
    def asked_for(cls) -> Pace:
        """By the environment of this process."""
        least, most = os.environ[VARIABLE].split()
        return cls(int(least), int(most), int(os.environ[SPIKE]), int(os.environ[SPIKE_EVERY]))

    def wait(self) -> None:
        """The time that one fsync takes."""
        milliseconds = random.uniform(self.least_ms, self.most_ms)
        if self.spike_ms and random.randrange(self.spike_every) == 0:
            milliseconds = self.spike_ms
        time.sleep(milliseconds / 1000)


class SlowDisk(apsw.VFS):
    """SQLite's own VFS with the pace of a slow disk."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        super().__init__("slow", BASE, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return SlowFile(self._pace, name, flags)


class SlowFile(apsw.VFSFile):
    """An open file on it."""

    def __init__(self, pace: Pace, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._pace = pace
        super().__init__(BASE, name, flags)

    def xSync(self, flags: int) -> None:
        self._pace.wait()
        super().xSync(flags)


def slow_down(pace: Pace) -> SlowDisk:
    """From here on this process has a slow disk; keep what is returned."""

    def slow(function: Any) -> Any:
        def sync(file: Any) -> None:
            pace.wait()
            function(file)

        return sync

    os.fsync, os.fdatasync = slow(os.fsync), slow(os.fdatasync)
    return SlowDisk(pace)


if __name__ == "__main__":
    disk = slow_down(Pace.asked_for())
    from kvshim.cli.main import main

    sys.exit(main())
