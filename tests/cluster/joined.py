"""Nodes that join by one command: real processes, each with ports of its own. Test's thread."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc

from kvshim.errors import KvshimError
from kvshim.pb.etcd import rpc_pb2
from kvshim.server.admin_socket import SOCKET_NAME, AdminClient
from tests.support.ports import free_ports
from tests.support.program import KVSHIM

_T = TypeVar("_T")


class Node:
    """A node and the ports that clients use."""

    def __init__(self, directory: Path, name: str, *flags: str) -> None:
        self.name = name
        self.flags = flags
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
            *self.flags,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([str(KVSHIM), *command, *flags], stdout=log, stderr=log)

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

    def roles(self) -> Counter[str]:
        """How many members have which role, as the leader sees it."""
        return Counter(str(member["role"]) for member in self.status())

    def status(self) -> list[dict[str, Any]]:
        """Every member, as `kvshim status` shows it."""
        return list(AdminClient(self.data / SOCKET_NAME).call("status", {})["members"])

    def having(self, role: str) -> set[str]:
        """The names of those that have it."""
        return {str(member["name"]) for member in self.status() if member["role"] == role}

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def grow(first: Node, others: Sequence[Node]) -> None:
    """Have them join by the first, one after the other; returns when all have their roles."""
    for node in others:
        node.join(first.line_for_another())
        until(lambda node=node: node.name in first.names(), f"{node.name} does not join")
    count = len(first.members())
    voters = min(3, count - 1 + count % 2)
    wanted = {"voter": voters, "standby": min(2, count - voters), "spare": max(0, count - 5)}
    until(lambda: first.roles() == Counter(wanted), f"the roles are not {wanted}")
    for node in others:
        assert node.process is not None
        assert node.process.poll() is None, node.log.read_text()[-2_000:]


def command(*arguments: str) -> str:
    done = subprocess.run(
        [str(KVSHIM), *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def failing(*arguments: str) -> str:
    done = subprocess.run(
        [str(KVSHIM), *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def until(
    condition: Callable[[], object], what: str | Callable[[], str], seconds: float = 40.0
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(grpc.RpcError, KvshimError):
            if condition():
                return
        time.sleep(0.2)
    raise AssertionError(what if isinstance(what, str) else what())
