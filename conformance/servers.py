"""Starts a datastore, kvshim or the reference etcd, as a process of its own on loopback.

Both take the same flags, so one class serves both, and a story written on it can first be shown to
be right on etcd. Blocking code for tests and benchmarks; it owns the process it starts, that
process's data directory if it made one, and nothing else.
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from conformance.certs import CertFiles
from tests.support.logs import require_no_traceback
from tests.support.ports import free_ports
from tests.support.program import KVSHIM

ROOT = Path(__file__).resolve().parent.parent
BUILD_DIR = ROOT / "build"
ETCDCTL = BUILD_DIR / "etcdctl"

READY_SECONDS_MAX = 60.0
LOG_TAIL_LINES = 25


class Kind(Enum):
    """Which program stores."""

    KVSHIM = "kvshim"
    ETCD = "etcd"
    KINE = "kine"
    """For comparison only: it has no flags of etcd's, no HTTP pages and not the whole API."""

    @property
    def program(self) -> Path:
        """Where the executable is."""
        match self:
            case Kind.KVSHIM:
                return KVSHIM
            case Kind.ETCD | Kind.KINE:
                return BUILD_DIR / self.value

    @property
    def how_to_get_it(self) -> str:
        """What to run when the executable is not there."""
        match self:
            case Kind.KVSHIM:
                return "make setup"
            case Kind.ETCD | Kind.KINE:
                return f"python conformance/build.py {self.value}"

    @property
    def stop_seconds_max(self) -> float:
        """kvshim's promise; etcd waits up to 7 s for streams that clients hold open."""
        match self:
            case Kind.KVSHIM:
                return 5.0
            case Kind.ETCD | Kind.KINE:
                return 15.0

    @property
    def stopped_code(self) -> int:
        """The exit code after SIGTERM; etcd, its work done, lets the signal itself end it."""
        match self:
            case Kind.KVSHIM | Kind.KINE:
                return 0
            case Kind.ETCD:
                return -signal.SIGTERM


class ServerError(Exception):
    """A server did not start, did not get ready, or did not stop as it should."""


def http_get(url: str, timeout_seconds: float = 2.0) -> tuple[int, str]:
    """Status and body of a plain GET; an error status is an answer, a dead connection raises."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as failure:
        return failure.code, failure.read().decode()


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log, for error messages."""
    if not path.exists():
        return f"(no log at {path})"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


@dataclass(slots=True)
class Datastore:
    """One single-member datastore: a data directory, three fixed ports, and at most one process.

    Start, stop, kill and start again keep directory and ports, as a supervised server would.
    """

    kind: Kind
    directory: Path
    extra_flags: Sequence[str] = ()
    tls: CertFiles | None = None
    """Given, clients must speak TLS and show a certificate of its CA."""
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    _process: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] | None = None

    @property
    def client_url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.ports[0]}"

    @property
    def endpoint(self) -> str:
        """The client address in the form that gRPC libraries take."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[2]}"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def log_path(self) -> Path:
        """Standard output and error of every process started here, one after the other."""
        return self.directory / f"{self.kind.value}.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError(f"{self.kind.value} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """The command line, in etcd's flags only unless it is kine's."""
        flags = self._kine_flags() if self.kind is Kind.KINE else self._flags()
        named = [f"--{name}={value}" for name, value in flags.items()]
        return [str(self.kind.program), *named, *self.extra_flags]

    def _kine_flags(self) -> dict[str, str]:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        flags = {
            "listen-address": self.client_url,
            "endpoint": f"sqlite://{self.data_dir}/kine.db?_journal=WAL&cache=shared",
            "metrics-bind-address": self.metrics_url.removeprefix("http://"),
        }
        if self.tls is not None:
            flags["server-cert-file"] = str(self.tls.server_cert)
            flags["server-key-file"] = str(self.tls.server_key)
            flags["trusted-ca-file"] = str(self.tls.ca_cert)
            flags["metrics-ignore-tls-config"] = "true"
        return flags

    def _flags(self) -> dict[str, str]:
        flags = {
            "name": "m1",
            "data-dir": str(self.data_dir),
            "listen-client-urls": self.client_url,
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": f"m1={self.peer_url}",
            "listen-metrics-urls": self.metrics_url,
        }
        if self.tls is not None:
            flags["cert-file"] = str(self.tls.server_cert)
            flags["key-file"] = str(self.tls.server_key)
            flags["trusted-ca-file"] = str(self.tls.ca_cert)
            flags["client-cert-auth"] = "true"
        return flags

    def start(self) -> float:
        """Starts the process and waits until it serves; returns the seconds that took."""
        if self.running:
            raise ServerError(f"{self.kind.value} runs already")
        if not self.kind.program.exists():
            raise ServerError(f"{self.kind.program} is missing: run `{self.kind.how_to_get_it}`")
        self.directory.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self._log = self.log_path.open("ab")
        self._process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self.wait_ready()
        except ServerError:
            self._process.kill()
            self._process.wait()
            self._close_log()
            raise
        return time.monotonic() - started

    def wait_ready(self, timeout_seconds: float = READY_SECONDS_MAX) -> None:
        """Returns once /health says true and the client port answers."""
        deadline = time.monotonic() + timeout_seconds
        problem = "not asked yet"
        while time.monotonic() < deadline:
            if not self.running:
                raise ServerError(self._report(f"exited with code {self._exit_code()}"))
            try:
                page = "/metrics" if self.kind is Kind.KINE else "/health"
                status, body = http_get(f"{self.metrics_url}{page}")
                healthy = self.kind is Kind.KINE or json.loads(body).get("health") == "true"
                if status == 200 and healthy:
                    socket.create_connection(("127.0.0.1", self.ports[0]), timeout=2).close()
                    return
                problem = f"{page} answered {status} {body!r}"
            except (OSError, ValueError) as failure:
                problem = str(failure)
            time.sleep(0.05)
        raise ServerError(self._report(f"not ready after {timeout_seconds} s: {problem}"))

    def stop(self) -> float:
        """SIGTERM; returns the seconds until the exit, which must be clean and in time."""
        process, limit = self._take_process(), self.kind.stop_seconds_max
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerError(self._report(f"still up {limit} s after SIGTERM")) from None
        finally:
            self._close_log()
        if code != self.kind.stopped_code:
            raise ServerError(self._report(f"exited with code {code} after SIGTERM"))
        return time.monotonic() - started

    def kill(self) -> None:
        """SIGKILL, as a crash: nothing of the process runs after this returns."""
        process = self._take_process()
        process.kill()
        process.wait()
        self._close_log()

    def restart(self) -> float:
        """Stops cleanly and starts on the same directory and ports; seconds until it serves."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """A clean stop and a log without tracebacks are part of the test, unless something else has
        failed already."""
        if not self.running:
            self._close_log()
        elif failure is None:
            self.stop()
        else:
            self.kill()
        if failure is None:
            require_no_traceback(self.log_path)

    def etcdctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs etcdctl against this datastore."""
        command = [str(ETCDCTL), f"--endpoints={self.client_url}", *arguments]
        if self.tls is not None:
            command += [f"--cacert={self.tls.ca_cert}", f"--cert={self.tls.client_cert}"]
            command += [f"--key={self.tls.client_key}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if check and done.returncode != 0:
            raise ServerError(f"etcdctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def etcdctl_json(self, *arguments: str) -> dict[str, Any]:
        """The JSON answer of an etcdctl command; keys and values in it are base64."""
        answer: dict[str, Any] = json.loads(self.etcdctl(*arguments, "-w", "json").stdout)
        return answer

    def revision(self) -> int:
        """The current revision, by a linearizable read."""
        return int(self.etcdctl_json("get", "-")["header"]["revision"])

    def metrics(self) -> str:
        """The metrics page."""
        status, body = http_get(f"{self.metrics_url}/metrics", timeout_seconds=5)
        if status != 200:
            raise ServerError(f"/metrics answered {status}")
        return body

    def _take_process(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is None or process.poll() is not None:
            raise ServerError(self._report(f"is gone already, exit code {self._exit_code()}"))
        return process

    def _exit_code(self) -> int | None:
        return self._process.returncode if self._process is not None else None

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _report(self, what: str) -> str:
        return f"{self.kind.value} {what}; {self.log_path} ends:\n{log_tail(self.log_path)}"


@contextmanager
def temporary(kind: Kind, *extra_flags: str) -> Iterator[Datastore]:
    """A running datastore with a directory of its own, both gone at the end.

    The directory stays if something fails, since its log says why.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"{kind.value}-"))
    with Datastore(kind, directory, extra_flags) as datastore:
        yield datastore
    shutil.rmtree(directory)


def main() -> int:
    """Runs a throwaway datastore until Enter: `python -m conformance.servers etcd`."""
    kind = Kind(sys.argv[1] if len(sys.argv) > 1 else "kvshim")
    with temporary(kind, *sys.argv[2:]) as datastore:
        print(f"{kind.value} pid {datastore.pid}: {datastore.client_url}, {datastore.metrics_url}")
        input("Enter stops it. ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
