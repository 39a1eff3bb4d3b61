"""Nodes that join by one command: three real processes, certificates and roles by themselves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2
from tests.support.datastore import free_ports

KVSHIM = [sys.executable, "-m", "kvshim.cli.main"]
_T = TypeVar("_T")


class Node:
    """A node and the ports that clients use."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.data = directory / name
        self.log = directory / f"{name}.log"
        self.client, self.metrics, self.peer = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> None:
        url = f"http://127.0.0.1:{self.client}"
        flags = [
            *("--data-dir", str(self.data), "--name", self.name),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-metrics-urls", f"http://127.0.0.1:{self.metrics}"),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*KVSHIM, *command, *flags], stdout=log, stderr=log)

    def line_for_another(self) -> str:
        """What `kvshim add-node` prints; this node may have no neighbour yet."""
        here = f"127.0.0.1:{self.peer}"
        return command("add-node", "--data-dir", str(self.data), "--address", here)

    def join(self, line: str) -> None:
        """Type the line, with an address of its own: all these nodes are on one machine."""
        word = line.split()[2]
        here = f"https://{word.rsplit(':', 1)[0]}:{self.peer}"
        self.start("join", word, "--listen-peer-urls", here, "--initial-advertise-peer-urls", here)

    def ask(self, service: str, request: object, response: type[_T]) -> _T:
        with grpc.insecure_channel(f"127.0.0.1:{self.client}") as channel:
            call = channel.unary_unary(
                f"/etcdserverpb.{service}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=response.FromString,  # type: ignore[attr-defined]
            )
            return call(request, timeout=8)  # type: ignore[no-any-return]

    def members(self) -> list[rpc_pb2.Member]:
        request = rpc_pb2.MemberListRequest(linearizable=False)
        return list(self.ask("Cluster/MemberList", request, rpc_pb2.MemberListResponse).members)

    def names(self) -> set[str]:
        """Of the members that have started."""
        return {member.name for member in self.members()}

    def voters(self) -> int:
        return sum(not member.isLearner for member in self.members())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def command(*arguments: str) -> str:
    done = subprocess.run(
        [*KVSHIM, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def failing(*arguments: str) -> str:
    done = subprocess.run(
        [*KVSHIM, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def until(condition: Callable[[], object], what: str, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(grpc.RpcError):
            if condition():
                return
        time.sleep(0.2)
    raise AssertionError(what)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    made = [Node(tmp_path, name) for name in ("one", "two", "three", "four")]
    yield made
    for node in made:
        node.kill()


def test_three_nodes_form_a_cluster_that_outlives_the_first(nodes: list[Node]) -> None:
    one, two, three, four = nodes
    one.start()
    until(lambda: one.voters() == 1, "the first node does not come up")
    one.ask("KV/Put", rpc_pb2.PutRequest(key=b"a", value=b"b"), rpc_pb2.PutResponse)

    two.join(one.line_for_another())
    until(lambda: "two" in one.names(), "the second node does not join")
    assert one.voters() == 1, "two voters would be worse than one"
    three.join(one.line_for_another())
    until(lambda: one.voters() == 3, "the joined nodes get no votes")
    range_request = rpc_pb2.RangeRequest(key=b"a")
    assert three.ask("KV/Range", range_request, rpc_pb2.RangeResponse).kvs[0].value == b"b"
    key = two.data / "pki" / "ca.key"
    until(key.exists, "the CA's key is on one node only")
    for secret in ("ca.key", "node.pem"):
        assert (two.data / "pki" / secret).stat().st_mode & 0o777 == 0o600

    for node in (one, two):  # the leader, and one that asks it
        shown = json.loads(command("status", "--data-dir", str(node.data), "-o", "json"))
        assert [m["name"] for m in shown["members"] if m["leads"]] == ["one"]
        assert {m["role"] for m in shown["members"]} == {"voter"}
        assert all(m["reached"] and m["lag_entries"] < 10 for m in shown["members"])
        assert shown["quorum"]["failures_tolerated"] == 1
    assert "1 may fail" in command("status", "--data-dir", str(three.data))

    one.kill()
    put = rpc_pb2.PutRequest(key=b"c", value=b"d")
    until(lambda: two.ask("KV/Put", put, rpc_pb2.PutResponse), "nobody takes over")
    gone = next(member for member in two.members() if member.name == "one")
    command("remove-node", f"{gone.ID:x}", "--data-dir", str(two.data))
    four.join(command("add-node", "--data-dir", str(two.data)))  # it listens since it joined
    until(
        lambda: "four" in two.names() and two.voters() == 3, "no node takes the place of the first"
    )


def test_the_printed_line_is_all_that_a_node_needs(nodes: list[Node]) -> None:
    one, *_ = nodes
    one.start()
    until(lambda: one.voters() == 1, "the first node does not come up")
    line = one.line_for_another()
    assert re.fullmatch(rf"kvshim join 127\.0\.0\.1:{one.peer}#\S+", line.strip())
    again = command("add-node", "--data-dir", str(one.data))
    assert again.split("#")[0] == line.split("#")[0]
    elsewhere = ("--address", f"127.0.0.1:{nodes[1].peer}")
    assert "leave --address out" in failing("add-node", "--data-dir", str(one.data), *elsewhere)


def test_a_taken_port_is_said_and_another_can_be_given(nodes: list[Node]) -> None:
    one, *_ = nodes
    one.start()
    until(lambda: one.voters() == 1, "the first node does not come up")
    taken = ("--address", f"127.0.0.1:{one.client}")
    said = failing("add-node", "--data-dir", str(one.data), *taken)
    assert "in use" in said
    assert "--address" in said
    assert "HOST:PORT" in failing("add-node", "--data-dir", str(one.data), "--address", "a:b:c")
    assert one.line_for_another()
