"""Who runs beside whom when pytest's workers share these suites (`-n 2 --dist loadgroup`).

A file is one group, so that a worker starts its servers once; a mark `xdist_group` of a test's own
says otherwise. What others would disturb is marked `alone`: it waits until no other test runs, and
none begins before it has ended. Files in `build/` are the locks, so one worker alone never waits.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.servers import BUILD_DIR

LONG_FIRST = ("storage", "kubernetes", "differential", "api_elsewhere")
"""Suites by what they are named after, a folder; all others follow in pytest's order and fill up
what is left of the time."""
ONE_WORKER = ("kubernetes",)
"""Folders whose files go on from one another, or would overload a machine side by side."""


def group(path: Path, suite: str) -> str:
    """The group of a test in that file of that suite."""
    return suite if suite in ONE_WORKER else f"{suite}-{path.stem}"


def rank(suite: str) -> int:
    """Where a suite comes in the order of the run."""
    return LONG_FIRST.index(suite) if suite in LONG_FIRST else len(LONG_FIRST)


@contextmanager
def turn(item: pytest.Item, directory: Path = BUILD_DIR) -> Iterator[None]:
    """Wait until a test may run, and let no other in that it must not meet.

    Who waits for the room holds the door: nobody overtakes a test that waits to be alone.
    """
    how = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    directory.mkdir(exist_ok=True)
    with (directory / ".room.lock").open("w") as room:
        with (directory / ".door.lock").open("w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, how)
        yield
