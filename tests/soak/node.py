"""The kvshim process under soak, seen from outside: its files, memory, metrics and log lines.

`Observer` has a thread of its own; everything else belongs to the test.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from kvshim.logs import Event
from tests.support.datastore import Datastore, Kind

MIB = 1 << 20
WAL_BYTES_MAX = 8 * MIB

SAMPLE_SECONDS = 0.05


class SoakNode(Datastore):
    """One node on an empty directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Kind.KVSHIM, directory, (f"--wal-bytes-max={WAL_BYTES_MAX}",))

    @property
    def kv(self) -> Path:
        return self.directory / "data" / "kv-1.db"

    def file_bytes(self, name: str) -> int:
        """Size of a file in the data directory, 0 while it is not there."""
        try:
            return (self.directory / "data" / name).stat().st_size
        except FileNotFoundError:
            return 0

    def wal_bytes(self) -> int:
        return self.file_bytes("kv-1.db-wal")

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            lines = page.read().decode().splitlines()
        mine = (line for line in lines if line.startswith((f"{name} ", name + "{")))
        found = [line.rpartition(" ")[2] for line in mine]
        assert found, f"no metric {name}"
        return sum(map(float, found))

    def lines(self, event: Event) -> list[dict[str, Any]]:
        """The log lines of an event, so far."""
        lines = self.log.read_text().splitlines()
        parsed = (json.loads(line) for line in lines if line.startswith("{"))
        return [line for line in parsed if line["msg"] == event]


def eventually(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes at one moment; `at` in seconds since the observer began."""

    at: float
    kv: int
    kv_wal: int
    raft: int
    raft_wal: int
    rss: int


@dataclass(slots=True)
class Observer:
    """Looks at files and memory all the time, in a `with` block."""

    node: SoakNode
    samples: list[Sample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Observer:
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self) -> None:
        assert self.node.process is not None
        process = psutil.Process(self.node.process.pid)
        began = time.monotonic()
        size = self.node.file_bytes
        while not self._stop.wait(SAMPLE_SECONDS):
            self.samples.append(
                Sample(
                    time.monotonic() - began,
                    size("kv-1.db"),
                    size("kv-1.db-wal"),
                    size("raft.db"),
                    size("raft.db-wal"),
                    process.memory_info().rss,
                )
            )

    def largest(self, what: Callable[[Sample], int]) -> int:
        """The largest value ever seen."""
        return max(map(what, self.samples))

    def median(self, what: Callable[[Sample], int], first: float, last: float) -> float:
        """The median within a part of the run, as fractions of it."""
        count = len(self.samples)
        part = self.samples[int(first * count) : int(last * count)]
        return statistics.median(map(what, part))

    def slope(self, what: Callable[[Sample], int], first: float = 0.5) -> float:
        """Bytes a minute that the last part of the run gained, by least squares."""
        part = self.samples[int(first * len(self.samples)) :]
        fit = statistics.linear_regression([s.at for s in part], [float(what(s)) for s in part])
        return fit.slope * 60
