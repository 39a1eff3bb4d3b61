"""From the start of the process to its first answer, with a large store; and after a crash."""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench.load import LoadError
from bench.trial import Measurement, Outcome, Trial
from bench.usage import MIB
from conformance.servers import Datastore, Kind

WRITES_EACH = 10_000
TURNS_MAX = 40


def start(trial: Trial) -> Outcome:
    """A few clean starts, then one after SIGKILL with a long write-ahead log."""
    scale = trial.scale
    # Or kvshim would hold writes back until a checkpoint has made the WAL short again.
    roomy = (f"--wal-bytes-max={4 * scale.wal_mib * MIB}",) if trial.kind is Kind.KVSHIM else ()
    with trial.server(*roomy) as server:
        trial.load(server, scale.large_objects, "fill")
        clean = [server.restart() for _ in range(scale.starts)]
        with _pinned(server):
            _write_until(trial, server, scale.wal_mib * MIB)
            server.kill()
        wal_bytes = _wal_bytes(server)
        killed = server.start()
    figures = {"start_seconds": statistics.median(clean), "killed_start_seconds": killed}
    return Outcome(figures, {"clean": clean, "killed": killed, "wal_mib": wal_bytes / MIB})


def _write_until(trial: Trial, server: Datastore, wal_bytes: int) -> None:
    for turn in range(TURNS_MAX):
        if _wal_bytes(server) >= wal_bytes:
            return
        trial.load(server, WRITES_EACH, "create", prefix=f"/registry/more/{turn}/")
    if _wal_bytes(server) < wal_bytes:
        raise LoadError(f"{TURNS_MAX * WRITES_EACH:,} writes did not fill the write-ahead log")


def _wal_bytes(server: Datastore) -> int:
    pattern = "kv-*.db-wal" if server.kind is Kind.KVSHIM else "member/wal/*.wal"
    return sum(path.stat().st_size for path in server.data_dir.glob(pattern))


@contextmanager
def _pinned(server: Datastore) -> Iterator[None]:
    """A reader from outside that keeps the WAL of kv.db from being begun anew.

    It may only read, so that its end, the last connection's, does not copy the WAL into the file.
    """
    if server.kind is not Kind.KVSHIM:
        yield
        return
    (path,) = server.data_dir.glob("kv-*.db")
    with closing(_reader(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchall()
        yield


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)


START = Measurement("start", "start to ready", start, rounds=1)
