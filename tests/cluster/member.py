"""One member of a cluster under test: a real process, its directory, ports and signals.

Owns the process it starts. Called from the test's thread; the names and ports never change, so a
member that is started again is the same one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.support.datastore import Kind, StartError

STOP_SECONDS_MAX = 15.0
STATUS_SECONDS_MAX = 2.0
PAGE_SECONDS_MAX = 10.0
LOG_TAIL_BYTES = 3000
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


@dataclass(slots=True)
class Member:
    """A name, a directory, four ports; `announced_port` is the proxy's, or the member's own."""

    kind: Kind
    name: str
    directory: Path
    client_port: int
    peer_port: int
    announced_port: int
    metrics_port: int
    flags: Sequence[str] = ()
    program: Sequence[str] = ()
    """What to start instead of the installed command: another version, another disk."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Set on top of the test's own."""
    host: str = "127.0.0.1"
    launcher: Sequence[str] = ()
    """What runs a command where the host is: in a network namespace of its own."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    paused: bool = False

    @property
    def target(self) -> str:
        return f"{self.host}:{self.client_port}"

    @property
    def client_url(self) -> str:
        return f"http://{self.target}"

    @property
    def peer_url(self) -> str:
        """Where the others reach it."""
        return f"http://{self.host}:{self.announced_port}"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    def command(self, initial_cluster: str, state: str) -> list[str]:
        return [
            *self.launcher,
            *(self.program or [str(self.kind.binary)]),
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls=http://{self.host}:{self.peer_port}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={initial_cluster}",
            f"--initial-cluster-state={state}",
            f"--listen-metrics-urls=http://{self.host}:{self.metrics_port}",
            *self.flags,
        ]

    def start(self, initial_cluster: str, state: str = "new") -> None:
        """Start the process; whether it serves is for the caller to wait for."""
        assert not self.running, f"{self.name} runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            command = self.command(initial_cluster, state)
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        self.paused = False

    def kill(self) -> None:
        """SIGKILL; nothing of it runs when this returns."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process, self.paused = None, False

    def stop(self) -> float:
        """SIGTERM; seconds until it ended. One that does not end in time is killed and told."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop: {self.tail()}") from None
        self.process = None
        wanted = 0 if self.kind is Kind.KVSHIM else -signal.SIGTERM
        assert code == wanted, f"{self.name} ended with {code}: {self.tail()}"
        return time.monotonic() - began

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def status(self) -> pb.StatusResponse | None:
        """What it says of itself; None if it does not answer."""
        if not self.running or self.paused:
            return None
        with grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS) as channel:
            call = channel.unary_unary(
                "/etcdserverpb.Maintenance/Status",
                request_serializer=pb.StatusRequest.SerializeToString,
                response_deserializer=pb.StatusResponse.FromString,
            )
            try:
                answer: pb.StatusResponse = call(pb.StatusRequest(), timeout=STATUS_SECONDS_MAX)
            except grpc.RpcError:
                return None
            return answer

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of a page on the metrics address."""
        url = f"http://{self.host}:{self.metrics_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=PAGE_SECONDS_MAX) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def require_running(self) -> None:
        """Raises StartError if the process has ended by itself."""
        if self.process is not None and self.process.poll() is not None:
            code = self.process.returncode
            raise StartError(f"{self.name} ended with {code}: {self.tail()}")

    def tail(self) -> str:
        """The end of its log, for messages."""
        if not self.log.exists():
            return "(no log)"
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
