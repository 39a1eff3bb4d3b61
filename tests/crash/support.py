"""Starting the kvshim command in ways that must fail, and looking at how it fails."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.datastore import Datastore, Kind, free_ports

REFUSAL_SECONDS_MAX = 15.0
PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


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


def run_to_end(store: Datastore, before_exec: Callable[[], None] | None = None) -> Ended:
    """Run the command until it ends by itself."""
    done = subprocess.run(
        store.command(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=REFUSAL_SECONDS_MAX,
        check=False,
        preexec_fn=before_exec,
    )
    return Ended(done.returncode, done.stdout.decode())


def give_up_root() -> None:
    """Let file permissions hold for root too, by taking away the right to ignore them."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def contents(data: Path) -> dict[str, bytes]:
    """The databases of a data directory; SQLite's shared memory is no data."""
    return {
        file.name: file.read_bytes()
        for file in sorted(data.iterdir())
        if file.is_file() and not file.name.endswith("-shm") and file.name != "lock"
    }
