"""The load generator: building it, running it once against a server, and its result.

Blocking; owns the child processes it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODULE_DIR = ROOT / "conformance" / "etcd"
LOADGEN = ROOT / "build" / "loadgen"


class LoadError(Exception):
    """The load generator could not be built, or a server gave it a wrong answer."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of each server; the defaults are the load that all figures compare by."""

    objects: int = 5000
    value_bytes: int = 1024
    watchers: int = 100
    watch_seconds: float = 5.0
    list_repeats: int = 3
    phases: Sequence[str] = ("create", "update", "get", "list", "paged", "watch", "delete")

    def flags(self) -> list[str]:
        """The load generator's flags for this load."""
        return [
            f"--n={self.objects}",
            f"--value-bytes={self.value_bytes}",
            f"--watchers={self.watchers}",
            f"--watch-duration={self.watch_seconds}s",
            f"--list-repeats={self.list_repeats}",
            f"--phases={','.join(self.phases)}",
        ]


def build() -> None:
    """Builds the load generator; Go's build cache makes a second time quick."""
    command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
    command += ["-o", str(LOADGEN), "./cmd/loadgen"]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    LOADGEN.parent.mkdir(exist_ok=True)
    try:
        subprocess.run(command, cwd=MODULE_DIR, env=environment, check=True)
    except FileNotFoundError:
        raise LoadError("no `go` in PATH; the load generator needs Go 1.26 or newer") from None
    except subprocess.CalledProcessError as failure:
        raise LoadError(f"go failed with exit code {failure.returncode}") from None


def run(load: Load, client_url: str, server_pid: int, timeout_seconds: float) -> dict[str, Any]:
    """Runs the load once; the generator's JSON result. Raises LoadError with its sentence."""
    command = [str(LOADGEN), f"--endpoints={client_url}", f"--server-pid={server_pid}"]
    command += [f"--timeout={timeout_seconds}s", *load.flags()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LoadError(done.stderr.strip() or f"loadgen exited with code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
