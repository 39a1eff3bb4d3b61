"""What a server process has used of the machine, read from /proc while it runs (Linux only)."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1 << 20
BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own block is


@dataclass(frozen=True, slots=True)
class Usage:
    """A process and its children at one moment; sizes in MiB."""

    cpu_seconds: float
    rss_mib: float
    rss_peak_mib: float
    written_mib: float  # handed to the disk, by the kernel's count
    data_dir_mib: float  # allocated blocks, so etcd's preallocated log counts


def read(pid: int, data_dir: Path) -> Usage:
    """The usage of the process, its children and its data directory now."""
    server = psutil.Process(pid)
    family = [server, *server.children(recursive=True)]
    times = [process.cpu_times() for process in family]
    return Usage(
        cpu_seconds=sum(time.user + time.system for time in times),
        rss_mib=sum(process.memory_info().rss for process in family) / MIB,
        rss_peak_mib=sum(_rss_peak_kib(process.pid) for process in family) / 1024,
        written_mib=sum(process.io_counters().write_bytes for process in family) / MIB,
        data_dir_mib=_allocated_bytes(data_dir) / MIB,
    )


def wakeups(pid: int) -> int:
    """How often threads of the process have gone to sleep of their own accord, and so woke up."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            total += _status(task / "status", "voluntary_ctxt_switches:")
    return total


@dataclass(frozen=True, slots=True)
class Idleness:
    """What a process does while nobody asks anything of it."""

    cpu_percent: float
    wakeups_per_second: float
    rss_mib: float


def idleness(pids: Sequence[int], seconds: float) -> list[Idleness]:
    """Watches processes, without their children, for so long."""
    processes = [psutil.Process(pid) for pid in pids]
    before = [(sum(process.cpu_times()[:2]), wakeups(process.pid)) for process in processes]
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return [
        Idleness(
            cpu_percent=100 * (sum(process.cpu_times()[:2]) - cpu_seconds) / took,
            wakeups_per_second=(wakeups(process.pid) - woken) / took,
            rss_mib=process.memory_info().rss / MIB,
        )
        for process, (cpu_seconds, woken) in zip(processes, before, strict=True)
    ]


def machine_busy_seconds() -> float:
    """CPU time that everything on the machine has used since boot, idle and waiting left out."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def own_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(found.ru_utime + found.ru_stime for found in map(resource.getrusage, who))


def _rss_peak_kib(pid: int) -> int:
    return _status(Path(f"/proc/{pid}/status"), "VmHWM:")


def _status(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ValueError(f"no {name} in {path}")


def _allocated_bytes(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            total += Path(folder, name).lstat().st_blocks * BLOCK_BYTES
    return total
