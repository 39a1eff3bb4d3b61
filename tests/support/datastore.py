"""A real datastore process for black-box tests: kvshim, or etcd to prove the tests right.

Owns the process it starts and its data directory, nothing else. Both programs are started with the
same flags. Called from the test's own thread; no thread of its own.
"""

import enum
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from tests.support.ports import free_ports
from tests.support.program import KVSHIM

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 40.0
STOP_SECONDS_MAX = 15.0


class Kind(enum.StrEnum):
    """Which program answers."""

    KVSHIM = "kvshim"
    ETCD = "etcd"

    @property
    def binary(self) -> Path:
        match self:
            case Kind.KVSHIM:
                return KVSHIM
            case Kind.ETCD:
                return REPOSITORY / "build" / "etcd"


class StartError(RuntimeError):
    """The process ended, or did not serve in time; the message holds the end of its output."""


@dataclass(slots=True)
class Datastore:
    """One single-member server; `start` waits until it answers a client."""

    kind: Kind
    directory: Path
    flags: tuple[str, ...] = ()
    name: str = "story"
    client_port: int = 0
    peer_port: int = 0
    metrics_port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def client_url(self) -> str:
        return f"http://{self.target}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def command(self) -> list[str]:
        return [
            str(self.kind.binary),
            f"--name={self.name}",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.name}={self.peer_url}",
            f"--listen-metrics-urls=http://127.0.0.1:{self.metrics_port}",
            *self.flags,
        ]

    def start(self) -> None:
        """Start the process on ports of its own."""
        self.client_port, self.peer_port, self.metrics_port = free_ports(3)
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        try:
            self._wait_until_serving()
        except StartError:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process this object started; SIGKILL if it does not drain in time."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _wait_until_serving(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
        with grpc.insecure_channel(self.target, options=options) as channel:
            status = channel.unary_unary("/etcdserverpb.Maintenance/Status")
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise StartError(f"{self.kind} ended with {self.process.returncode}: {self}")
                try:
                    status(b"", timeout=1.0, wait_for_ready=True)
                except grpc.RpcError:
                    continue
                return
        raise StartError(f"{self.kind} does not serve after {START_SECONDS_MAX} s: {self}")

    def _tail(self) -> bytes:
        return self.log.read_bytes()[-4000:]

    def __str__(self) -> str:
        return f"{' '.join(self.command())}\n{self._tail().decode(errors='replace')}"


@contextmanager
def running(kind: Kind, directory: Path, *flags: str) -> Iterator[Datastore]:
    """A served datastore on an empty data directory, stopped at the end."""
    store = Datastore(kind, directory, flags)
    store.start()
    try:
        yield store
    finally:
        store.stop()
