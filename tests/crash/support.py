"""Starting the kvshim command in ways that must fail, and looking at how it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.datastore import Datastore, Kind
from tests.support.ports import free_ports

REFUSAL_SECONDS_MAX = 15.0
WITHOUT_ROOT = (sys.executable, "-m", "tests.crash.without_root")
"""Before a command: file permissions hold for it, though root runs the tests."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    code: int
    output: str

    @property
    def sentence(self) -> str:
        """What it told the operator: the one line that begins with the program's name."""
        lines = [line for line in self.output.splitlines() if line.startswith("kvshim: ")]
        assert len(lines) == 1, self.output
        return lines[0]

    def assert_refused(self) -> None:
        """One sentence, a non-zero exit, no traceback."""
        assert self.code == 1, self.output
        assert self.sentence
        assert "Traceback" not in self.output, self.output


def datastore(directory: Path) -> Datastore:
    """A kvshim that is not started, with ports of its own."""
    store = Datastore(Kind.KVSHIM, directory)
    directory.mkdir(parents=True, exist_ok=True)
    store.client_port, store.peer_port, store.metrics_port = free_ports(3)
    return store


def run_to_end(store: Datastore, before: Sequence[str] = ()) -> Ended:
    """Run the command until it ends by itself."""
    done = subprocess.run(
        [*before, *store.command()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=REFUSAL_SECONDS_MAX,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode())


def contents(data: Path) -> dict[str, bytes]:
    """The databases of a data directory; SQLite's shared memory is no data."""
    return {
        file.name: file.read_bytes()
        for file in sorted(data.iterdir())
        if file.is_file() and not file.name.endswith("-shm") and file.name != "lock"
    }
