"""One kube-apiserver process on a given datastore, and the kubeconfig that leads to it.

It owns the process, its certificates and its log, all in one directory. Blocking code for tests.
"""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from conformance.certs import CertFiles, write_certs
from conformance.kubernetes.client import ApiClient, ApiError
from conformance.servers import BUILD_DIR, Datastore, ServerError, log_tail
from tests.support.ports import free_ports

PROGRAM = BUILD_DIR / "kube-apiserver"
VERSION = "v1.37.2"

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0

# Short, so that the story sees expiry and compaction within its few minutes. From 20 s of TTL on
# the API server shares one lease among the Events of a second, which is the shape to test.
EVENT_TTL_SECONDS = 20
COMPACTION_INTERVAL_SECONDS = 12


@dataclass(frozen=True, slots=True)
class Endpoints:
    """As much of a cluster as an API server is told: the URLs of all members."""

    client_url: str
    """Comma-separated."""
    tls: CertFiles | None = None


@dataclass(slots=True)
class ApiServer:
    """kube-apiserver with RBAC and client certificates, storing in `datastore`."""

    datastore: Datastore | Endpoints
    directory: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _certs: CertFiles | None = None
    _process: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.directory / "kube-apiserver.log"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def certs(self) -> CertFiles:
        if self._certs is None:
            raise ServerError("kube-apiserver was never started")
        return self._certs

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError("kube-apiserver is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def client(self) -> ApiClient:
        """A new connection as administrator; one for each thread."""
        return ApiClient(
            self.port, self.certs.ca_cert, self.certs.client_cert, self.certs.client_key
        )

    def start(self) -> float:
        """Starts the process and waits for /readyz; returns the seconds that took."""
        if not PROGRAM.exists():
            raise ServerError(
                f"{PROGRAM} is missing: run `python conformance/build.py kube-apiserver`"
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        self._certs = write_certs(self.directory / "certs")
        self.kubeconfig.write_text(json.dumps(self._kubeconfig()))
        self._log = self.log_path.open("ab")
        started = time.monotonic()
        self._process = subprocess.Popen(
            [str(PROGRAM), *self._flags(self.certs)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.wait_ready(READY_SECONDS_MAX)
        return time.monotonic() - started

    def wait_ready(self, timeout_seconds: float) -> float:
        """Returns the seconds until /readyz says ok."""
        started = time.monotonic()
        problem = "not asked yet"
        while time.monotonic() - started < timeout_seconds:
            if not self.running:
                raise ServerError(self._report("exited"))
            try:
                with self.client() as client:
                    client.get_text("/readyz")
                return time.monotonic() - started
            except (OSError, ApiError) as failure:
                problem = str(failure)
            time.sleep(0.1)
        raise ServerError(self._report(f"not ready after {timeout_seconds} s: {problem}"))

    def stop(self) -> None:
        """SIGTERM, then at most `STOP_SECONDS_MAX` of patience."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()

    def samples(self, metric: str, **labels: str) -> list[Sample]:
        """The samples of one metric, by its full sample name, that carry these labels."""
        with self.client() as client:
            page = client.get_text("/metrics")
        # The page is megabytes; parsing only the lines wanted keeps this quick.
        lines = (line for line in page.splitlines() if line.startswith(metric))
        return [
            sample
            for sample in _parse("\n".join(lines))
            if sample.name == metric and labels.items() <= sample.labels.items()
        ]

    def metric_sum(self, metric: str, **labels: str) -> float:
        """The sum over the samples of one metric that carry these labels; 0 if there are none."""
        return sum(sample.value for sample in self.samples(metric, **labels))

    def _flags(self, certs: CertFiles) -> list[str]:
        flags = {
            "etcd-servers": self.datastore.client_url,
            "etcd-compaction-interval": f"{COMPACTION_INTERVAL_SECONDS}s",
            "event-ttl": f"{EVENT_TTL_SECONDS}s",
            "bind-address": "127.0.0.1",
            "secure-port": str(self.port),
            # Only recorded, in the `kubernetes` Service's endpoints, which refuse loopback.
            "advertise-address": "192.0.2.1",
            "service-cluster-ip-range": "10.96.0.0/16",
            "authorization-mode": "RBAC",
            "client-ca-file": str(certs.ca_cert),
            "tls-cert-file": str(certs.server_cert),
            "tls-private-key-file": str(certs.server_key),
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(certs.service_account_key),
            "service-account-signing-key-file": str(certs.service_account_key),
            "v": "2",
        }
        if (etcd := self.datastore.tls) is not None:
            flags["etcd-cafile"] = str(etcd.ca_cert)
            flags["etcd-certfile"] = str(etcd.client_cert)
            flags["etcd-keyfile"] = str(etcd.client_key)
        return [f"--{name}={value}" for name, value in flags.items()]

    def _kubeconfig(self) -> dict[str, object]:
        """JSON is YAML enough for kubectl."""
        files = self.certs
        cluster = {"server": self.url, "certificate-authority": str(files.ca_cert)}
        user = {
            "client-certificate": str(files.client_cert),
            "client-key": str(files.client_key),
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "story", "cluster": cluster}],
            "users": [{"name": "story", "user": user}],
            "contexts": [{"name": "story", "context": {"cluster": "story", "user": "story"}}],
            "current-context": "story",
        }

    def _report(self, what: str) -> str:
        return f"kube-apiserver {what}; {self.log_path} ends:\n{log_tail(self.log_path)}"


def _parse(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text + "\n"):
        yield from family.samples
