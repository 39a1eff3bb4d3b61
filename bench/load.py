"""The load generator: building it, running it against a server, and its result.

Blocking; owns the child processes it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.certs import CertFiles

ROOT = Path(__file__).resolve().parent.parent
MODULE_DIR = ROOT / "conformance" / "etcd"
LOADGEN = ROOT / "build" / "loadgen"
WRITES = ("create", "update", "delete")

Phase = dict[str, Any]
Flags = Mapping[str, int | float | str]


class LoadError(Exception):
    """The load generator could not be built, or a server gave it a wrong answer."""


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


def run(
    phases: Sequence[str],
    flags: Flags,
    client_urls: str,
    server_pid: int,
    tls: CertFiles | None = None,
) -> dict[str, Phase]:
    """Runs these phases once; what each has measured. Raises LoadError with its sentence.

    Flags are the load generator's, by name; times are given as Go writes them ("5s").
    """
    command = [str(LOADGEN), f"--endpoints={client_urls}", f"--server-pid={server_pid}"]
    command += [f"--phases={','.join(phases)}"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    if tls is not None:
        command += [f"--cacert={tls.ca_cert}", f"--cert={tls.client_cert}"]
        command += [f"--key={tls.client_key}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LoadError(done.stderr.strip() or f"loadgen exited with code {done.returncode}")
    found: dict[str, Phase] = json.loads(done.stdout)["phases"]
    return found


def cpu_us(phases: Mapping[str, Phase], *names: str) -> float:
    """Microseconds of the server's CPU per operation of these phases together."""
    seconds = sum(phases[name]["server_cpu_seconds"] for name in names)
    return float(1e6 * seconds / sum(phases[name]["operations"] for name in names))


def together_per_second(phases: Mapping[str, Phase], *names: str) -> float:
    """Operations a second over these phases together."""
    operations = sum(phases[name]["operations"] for name in names)
    return float(operations / sum(phases[name]["seconds"] for name in names))
