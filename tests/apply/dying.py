"""A member that is killed while it takes a snapshot in: `python -m tests.apply.dying DIR STEP`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from kvshim.apply import snapshots
from tests.apply.support import Member


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(directory: Path, step: str) -> None:
    ahead, behind = Member(directory / "ahead"), Member(directory / "behind")
    behind.put_through(20)
    behind.settle()
    ahead.put_through(80)
    path, snapshot = ahead.copy_to(behind)
    if step == "received":
        die()
    if step == "checked":
        snapshots.sync = die
        Path.rename = die  # type: ignore[method-assign,assignment]
    if step == "renamed":
        snapshots.sync = die
    generation = behind.machine.accept(path, snapshot)
    if step in {"accepted", "named"}:
        die()
    if step == "opened":
        behind.store.replace = die  # type: ignore[method-assign]
    if step == "used":
        behind.machine.on_applied = die  # type: ignore[assignment]
    if step == "removing":
        remove = Path.unlink

        def unlink(file: Path, missing_ok: bool = False) -> None:
            remove(file, missing_ok=missing_ok)
            if file.name.endswith("-shm"):
                die()

        Path.unlink = unlink  # type: ignore[method-assign]
    behind.machine.install(generation, snapshot)
    behind.handed = snapshot.index
    behind.settle()
    behind.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
