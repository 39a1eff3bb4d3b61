"""A node as a person meets it: started by `make run`, stopped by Ctrl-C, started again."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.support.datastore import REPOSITORY
from tests.support.grpc_client import ALL, EtcdClient
from tests.support.ports import free_ports

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 5.0
READY = "ready to serve client requests"


def make_run_command() -> list[str]:
    """What `make run` starts."""
    makefile = (REPOSITORY / "Makefile").read_text()
    recipe = re.search(r"^run:.*\n\t\$\(BIN\)/(.+)$", makefile, re.MULTILINE)
    assert recipe, "the Makefile has no `run` that starts a program of .venv"
    program, *flags = shlex.split(recipe[1])
    return [str(Path(sys.prefix) / "bin" / program), *flags]


@dataclass(slots=True)
class Node:
    """A running process and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> str:
        """The output, once it holds the text."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while text not in self.output():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)
        return self.output()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Sends the signal; returns the seconds until a clean exit."""
        began = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(4 * STOP_SECONDS_MAX) == 0, self.output()
        assert "Traceback" not in self.output()
        return time.monotonic() - began


@contextmanager
def started(command: list[str], where: Path, **variables: str) -> Iterator[Node]:
    """A process in a directory of its own, killed at the end if it still runs."""
    where.mkdir(exist_ok=True)
    log = where / "output"
    kept = {name: text for name, text in os.environ.items() if not name.startswith("ETCD_")}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=where, env={**kept, **variables}, stdout=output, stderr=output
        )
    try:
        yield Node(process, log)
    finally:
        process.kill()
        process.wait()


def addresses(metrics: int | None = None) -> Mapping[str, str]:
    """Settings for ports of our own, as the environment gives them."""
    client, *_ = free_ports(1)
    url = f"http://127.0.0.1:{client}"
    found = {"ETCD_LISTEN_CLIENT_URLS": url, "ETCD_ADVERTISE_CLIENT_URLS": url}
    if metrics is not None:
        found["ETCD_LISTEN_METRICS_URLS"] = f"http://127.0.0.1:{metrics}"
    return found


def target(variables: Mapping[str, str]) -> str:
    return variables["ETCD_LISTEN_CLIENT_URLS"].removeprefix("http://")


def test_make_run_tells_where_everything_is_and_what_to_try(tmp_path: Path):
    metrics = free_ports(1)[0]
    variables = addresses(metrics)
    with started(make_run_command(), tmp_path, **variables) as node:
        node.wait_for("endpoint status")
        banner = node.output().partition("kvshim is ready")[2]
        assert f"  clients   http://{target(variables)}\n" in banner
        assert f"/metrics, http://127.0.0.1:{metrics}/metrics\n" in banner
        data = re.search(r"^  data      (.+)$", banner, re.MULTILINE)
        assert data
        assert Path(data[1]) == tmp_path / "kvshim.data"
        assert {file.name for file in Path(data[1]).iterdir()} >= {"raft.db", "kv-1.db"}
        commands = banner.partition("Try:\n")[2].strip().splitlines()
        assert len(commands) == 3
        for command in commands:
            words = shlex.split(command)
            assert words[:2] == ["etcdctl", f"--endpoints=http://{target(variables)}"]
        client = EtcdClient(target(variables))
        assert client.put(b"greeting", b"hello").header.revision == 2
        client.close()
        assert node.stop(signal.SIGINT) < STOP_SECONDS_MAX


def test_a_supervisor_gets_log_lines_alone(tmp_path: Path):
    flags = ["--data-dir=data", "--log-format=json"]
    program = make_run_command()[0]
    with started([program, *flags], tmp_path, **addresses(free_ports(1)[0])) as node:
        node.wait_for(READY)
        node.stop()
        lines = [json.loads(line) for line in node.output().splitlines()]
    said = [line["msg"] for line in lines]
    assert said[0] == "starting kvshim"
    assert said.index("serving client traffic") < said.index(READY) < said.index("stopping")
    assert said[-1] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clients_that_wait_do_not_hold_up_the_end(tmp_path: Path, number: signal.Signals):
    """Idle watches, a lease kept alive, half a request, an open page: none may take the grace."""
    metrics = free_ports(1)[0]
    variables = addresses(metrics)
    program = [make_run_command()[0], "--data-dir=data"]
    with started(program, tmp_path, **variables) as node, ExitStack() as stack:
        node.wait_for(READY)
        client = EtcdClient(target(variables))
        stack.callback(client.close)
        streams = [stack.enter_context(client.watch_stream()) for _ in range(5)]
        for stream in streams:
            for key in range(20):
                stream.create(b"%d" % key, watch_id=key + 1)
        lease_id = client.grant(60).ID
        kept = stack.enter_context(keep_alive_stream(client, lease_id))
        page = http.client.HTTPConnection("127.0.0.1", metrics, timeout=5)
        stack.callback(page.close)
        page.request("GET", "/health")
        assert page.getresponse().read()
        for port, sent in ((metrics, b"GET /metrics HTTP/1.1\r\n"), (metrics, b""), (0, b"")):
            address = ("127.0.0.1", port or int(target(variables).partition(":")[2]))
            half = stack.enter_context(socket.create_connection(address, timeout=5))
            half.sendall(sent)

        assert node.stop(number) < STOP_SECONDS_MAX

        for stream in streams:
            with pytest.raises(grpc.RpcError) as ended:
                stream.next()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        kept.join(5)
        assert not kept.is_alive()


@contextmanager
def keep_alive_stream(client: EtcdClient, lease_id: int) -> Iterator[threading.Thread]:
    """A stream that has renewed once and stays open."""
    answered, done = threading.Event(), threading.Event()

    def requests() -> Iterator[bytes]:
        yield pb.LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
        done.wait()

    call = client.channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive")(requests())

    def read() -> None:
        try:
            for _ in call:
                answered.set()
        except grpc.RpcError:
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert answered.wait(10)
    try:
        yield reader
    finally:
        done.set()
        call.cancel()


def test_asking_twice_is_no_harder(tmp_path: Path):
    variables = addresses(free_ports(1)[0])
    program = [make_run_command()[0], "--data-dir=data"]
    with started(program, tmp_path, **variables) as node:
        node.wait_for(READY)
        client = EtcdClient(target(variables))
        with client.watch_stream() as stream:
            stream.create(ALL, ALL)
            node.process.send_signal(signal.SIGINT)
            assert node.stop(signal.SIGINT) < STOP_SECONDS_MAX
        client.close()


def test_a_restart_serves_the_same(tmp_path: Path):
    """Data, history, revisions, leases and identity, over a clean stop and over SIGKILL."""
    variables = addresses(free_ports(1)[0])
    command = make_run_command()
    pictures = []
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        with started(command, tmp_path, **variables) as node:
            node.wait_for("Try:")
            client = EtcdClient(target(variables))
            if not pictures:
                write_some_history(client)
            pictures.append(picture(client))
            client.close()
            if end is signal.SIGTERM:
                node.stop()
            (tmp_path / "output").unlink()
    assert pictures[0] == pictures[1] == pictures[2]
    assert len(pictures[0]["live"]) == 7


def write_some_history(client: EtcdClient) -> None:
    lease_id = client.grant(600, 7587).ID
    for number in range(30):
        client.put(b"key-%d" % (number % 8), b"%d" % number, lease=lease_id if number > 20 else 0)
    client.delete(b"key-3")
    client.compact(20)


def picture(client: EtcdClient) -> dict[str, object]:
    """Everything that a client can see and that a restart must not change."""
    status, members = client.status(), client.members()
    everything = client.range(ALL, ALL)
    lease = client.time_to_live(7587, keys=True)
    with client.watch_stream() as stream:
        stream.create(ALL, ALL, start_revision=21, prev_kv=True)
        events = stream.events(12)
    return {
        "live": [kv.SerializeToString() for kv in everything.kvs],
        "revision": everything.header.revision,
        "cluster": (everything.header.cluster_id, everything.header.member_id),
        "members": [member.SerializeToString() for member in members.members],
        "leader": status.leader,
        "past": [kv.SerializeToString() for kv in client.range(ALL, ALL, revision=25).kvs],
        "hash": client.hash_kv().hash,
        "lease": (lease.grantedTTL, sorted(lease.keys), [one.ID for one in client.leases().leases]),
        "events": [event.SerializeToString() for event in events],
    }


def test_the_client_port_alone_serves_the_pages_by_default(tmp_path: Path):
    variables = addresses()
    with started([make_run_command()[0], "--data-dir=data"], tmp_path, **variables) as node:
        lines = [json.loads(line) for line in node.wait_for(READY).splitlines()]
        assert not any(line["msg"] == "serving metrics" for line in lines)
        url = variables["ETCD_LISTEN_CLIENT_URLS"]
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as page:
            assert b"etcd_server_has_leader 1.0" in page.read()
        listening = psutil.Process(node.process.pid).net_connections(kind="tcp")
        ports = {each.laddr.port for each in listening if each.status == psutil.CONN_LISTEN}
        assert ports == {int(url.rpartition(":")[2])}
        node.stop()


@pytest.fixture
def taken_metrics_port() -> Iterator[int]:
    """A port that somebody else does not give up."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_metrics_address_in_use_is_an_error(tmp_path: Path, taken_metrics_port: int):
    program = [make_run_command()[0], "--data-dir=data"]
    with started(program, tmp_path, **addresses(taken_metrics_port)) as node:
        assert node.process.wait(START_SECONDS_MAX) == 1
        said = [line for line in node.output().splitlines() if line.startswith("kvshim: ")]
    assert len(said) == 1
    assert str(taken_metrics_port) in said[0]
