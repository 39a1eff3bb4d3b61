"""One PostgreSQL under Patroni, both as Debian packages them, as processes of the user postgres.

Owns the process of Patroni, which owns PostgreSQL; `kill` ends both as a lost machine would.
Blocking code for tests.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from conformance.servers import log_tail
from tests.support.ports import free_ports

PROGRAM = Path("/usr/bin/patroni")
POSTGRES = Path("/usr/lib/postgresql")
USER = "postgres"
PASSWORD = "only-on-loopback"

# The shortest that Patroni takes: a lost primary is replaced after `ttl`.
TTL_SECONDS, LOOP_SECONDS, RETRY_SECONDS = 20, 2, 5

T = TypeVar("T")


def missing() -> str:
    """What has to be installed first, if anything."""
    if PROGRAM.exists() and any(POSTGRES.glob("*/bin/postgres")) and os.geteuid() == 0:
        return ""
    return "needs root and Debian's packages: apt-get install postgresql patroni"


def wait_for(look: Callable[[], T | None], seconds: float, why: Callable[[], str]) -> T:
    """What `look` found, once it does."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < deadline, why()
        time.sleep(0.2)
    return found


@dataclass(slots=True)
class Database:
    """A name, a directory that postgres owns, two ports, and the stores that hold the truth."""

    name: str
    directory: Path
    stores: Sequence[str]
    ports: list[int] = field(default_factory=lambda: free_ports(2))
    process: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / "patroni.log"

    def start(self) -> None:
        """Patroni makes the database, copies it from the primary, or goes on with the old one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "patroni.json"  # JSON is YAML enough
        config.write_text(json.dumps(self._config()))
        shutil.chown(self.directory, USER, USER)
        self._log = self.log.open("ab")
        self.process = subprocess.Popen(
            [PROGRAM, config],
            cwd=self.directory,
            user=USER,
            group=USER,
            extra_groups=[],
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "LC_ALL": "C.UTF-8"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def stop(self) -> None:
        """SIGTERM: Patroni stops PostgreSQL and gives the lead away."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close()

    def kill(self) -> None:
        """SIGKILL to Patroni and to PostgreSQL with all its children."""
        assert self.process is not None
        pids = [self.process.pid, *self._postgres()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._close()

    def role(self) -> str:
        """`master`, `replica`, or nothing while it does not run."""
        page = self._get("/patroni")
        running = page.get("state") == "running"
        return str(page.get("role", "")) if running else ""

    def sql(self, statement: str) -> str:
        """What psql prints; AssertionError if the server refuses."""
        done = subprocess.run(
            [
                *("psql", "--no-psqlrc", "--tuples-only", "--no-align", "--quiet"),
                "--host=127.0.0.1",
                f"--port={self.ports[0]}",
                f"--username={USER}",
                f"--command={statement}",
            ],
            env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "5"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def report(self) -> str:
        return f"{self.name} is {self.role() or 'down'}; its log ends:\n{log_tail(self.log)}"

    def _postgres(self) -> list[int]:
        """The postmaster, which begins a session of its own, and its children."""
        file = self.directory / "data" / "postmaster.pid"
        if not file.exists():
            return []
        postmaster = int(file.read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children")
        return [postmaster, *map(int, children.read_text().split())] if children.exists() else []

    def _get(self, path: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.ports[1]}{path}", timeout=2
            ) as got:
                return dict(json.loads(got.read()))
        except urllib.error.HTTPError as failure:
            return dict(json.loads(failure.read()))
        except OSError:
            return {}

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        self.process = None

    def _config(self) -> dict[str, Any]:
        [binaries, *_] = sorted(POSTGRES.glob("*/bin"), reverse=True)
        address = f"127.0.0.1:{self.ports[0]}"
        dynamic = {
            "ttl": TTL_SECONDS,
            "loop_wait": LOOP_SECONDS,
            "retry_timeout": RETRY_SECONDS,
            "postgresql": {"use_pg_rewind": True, "parameters": {"wal_log_hints": "on"}},
        }
        return {
            "scope": "users",
            "name": self.name,
            "restapi": {
                "listen": f"127.0.0.1:{self.ports[1]}",
                "connect_address": f"127.0.0.1:{self.ports[1]}",
            },
            "etcd3": {"hosts": list(self.stores)},
            "bootstrap": {"dcs": dynamic, "initdb": [{"encoding": "UTF8"}, "data-checksums"]},
            "postgresql": {
                "listen": address,
                "connect_address": address,
                "data_dir": str(self.directory / "data"),
                "bin_dir": str(binaries),
                "pgpass": str(self.directory / "pgpass"),
                "authentication": {
                    "superuser": {"username": USER, "password": PASSWORD},
                    "replication": {"username": "replicator", "password": PASSWORD},
                },
                "parameters": {"unix_socket_directories": str(self.directory)},
                "pg_hba": [
                    "host all all 127.0.0.1/32 scram-sha-256",
                    "host replication replicator 127.0.0.1/32 scram-sha-256",
                ],
            },
        }
