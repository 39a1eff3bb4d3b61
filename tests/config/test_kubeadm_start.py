"""A node started with the command line of kubeadm's manifest serves what the manifest promises.

The real command in a process of its own; only paths, addresses and ports are the test's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.config.test_kubeadm import OLDER, V1_37
from tests.support.ports import free_ports
from tests.transport.certs import Authority, Issued

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 5.0
NODE, LOCAL = "127.0.0.2", "127.0.0.1"


@dataclass(slots=True)
class Pki:
    """What kubeadm puts into /etc/kubernetes/pki/etcd."""

    authority: Authority
    client: Issued


@dataclass(slots=True)
class Running:
    process: subprocess.Popen[bytes]
    log: Path
    client_port: int
    metrics_port: int

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def write_pki(directory: Path) -> Pki:
    directory.mkdir()
    authority = Authority(directory)
    (directory / "ca.crt").write_bytes(authority.ca_file.read_bytes())
    for name in ("server", "peer"):
        issued = authority.issue(name, (LOCAL, NODE, "localhost"))
        (directory / f"{name}.crt").write_bytes(issued.cert_pem)
        (directory / f"{name}.key").write_bytes(issued.key_pem)
    return Pki(authority, authority.issue("kube-apiserver-etcd-client"))


def manifest(directory: Path, ports: list[int], replaced: dict[str, str]) -> list[str]:
    client, peer, metrics = map(str, ports)
    argv = []
    for argument in V1_37:
        text = replaced.get(argument, argument)
        text = text.replace("/etc/kubernetes/pki/etcd", str(directory / "pki"))
        text = text.replace("/var/lib/etcd", str(directory / "data"))
        text = text.replace("10.0.0.1", NODE).replace(":2379", f":{client}")
        argv.append(text.replace(":2380", f":{peer}").replace(":2381", f":{metrics}"))
    return argv


@contextmanager
def running(directory: Path, replaced: dict[str, str]) -> Iterator[Running]:
    ports, log = free_ports(3), directory / "node.log"
    environ = {name: text for name, text in os.environ.items() if not name.startswith("ETCD_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kvshim.cli.main", *manifest(directory, ports, replaced)],
            cwd=ROOT, env=environ, stdout=output, stderr=output,
        )  # fmt: skip
    node = Running(process, log, ports[0], ports[2])
    killer = threading.Timer(START_SECONDS_MAX * 2, process.kill)
    killer.start()
    try:
        wait_until_ready(node)
        yield node
    finally:
        process.kill()
        process.wait()
        killer.cancel()


def wait_until_ready(node: Running) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and node.process.poll() is None:
        try:
            if http(node, "/readyz") == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(node.log.read_text())


def http(node: Running, path: str) -> int:
    """As the probes of the manifest ask: plainly, on the metrics address."""
    try:
        address = f"http://{LOCAL}:{node.metrics_port}{path}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def put(target: str, credentials: grpc.ChannelCredentials) -> pb.PutResponse:
    with grpc.secure_channel(target, credentials) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.KV/Put",
            request_serializer=pb.PutRequest.SerializeToString,
            response_deserializer=pb.PutResponse.FromString,
        )
        return call(pb.PutRequest(key=b"k", value=b"v"), timeout=10)


@pytest.mark.parametrize("replaced", [{}, OLDER], ids=["v1.37", "experimental flags"])
def test_the_manifest_of_kubeadm_starts_a_node_that_serves(tmp_path, replaced):
    pki = write_pki(tmp_path / "pki")
    with running(tmp_path, replaced) as node:
        ca = pki.authority.ca_file.read_bytes()
        known = grpc.ssl_channel_credentials(ca, pki.client.key_pem, pki.client.cert_pem)

        for host in (NODE, LOCAL):
            answer = put(f"{host}:{node.client_port}", known)
            assert answer.header.revision > 1
        with pytest.raises(grpc.RpcError):
            put(f"{LOCAL}:{node.client_port}", grpc.ssl_channel_credentials(ca))
        assert http(node, "/livez") == 200
        assert (tmp_path / "data").is_dir()

        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(STOP_SECONDS_MAX) == 0
        warnings = [line for line in node.lines() if line["level"] == "warn"]
        # A busy machine may be told of as well.
        told = [line for line in warnings if "took too long" not in line["msg"]]
        assert {line["msg"] for line in told} <= {"flag has no effect", "flag has a new name"}
        assert len(told) == 2 + (1 if replaced else 0)
        assert node.lines()[-1]["msg"] == "stopped"
