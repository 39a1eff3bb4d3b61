"""Small helpers of the tests beside it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kvshim.backend.backend import Backend, BackendOptions
from kvshim.mvcc.store import Store
from kvshim.types import LeaseID


def open_store(path: Path, **options: object) -> Store:
    return Store(Backend.open(path, BackendOptions(**options)))


def put(
    store: Store, key: bytes, value: bytes, index: int | None = None, *, stays_open: bool = False
) -> None:
    """One put in a batch of its own; `index` becomes the applied index."""
    with store.write(stays_open=stays_open) as batch:
        txn = batch.begin()
        txn.put(key, value, LeaseID(0))
        txn.finish()
        if index is not None:
            batch.set_applied(index, 1)


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def content(path: Path) -> dict[str, bytes]:
    """The files of a database, but for what any reader makes anew: WAL index and empty WAL."""
    return {
        file.name: data
        for file in path.parent.glob(path.name + "*")
        if not file.name.endswith("-shm") and (data := file.read_bytes())
    }


class Outside:
    """Another program with the database open, as `sqlite3` on a terminal would be.

    It must be another process: file locks do not hold between two copies of SQLite in one.
    """

    _PROGRAM = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for line in sys.stdin:\n"
        "    db.execute(line).fetchall()\n"
        "    print('done', flush=True)\n"
    )

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._PROGRAM, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, statement: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
