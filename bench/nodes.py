"""Nodes of a cluster that forms as its users form it: `kvshim add-node` here, `kvshim join` there.

All on loopback, each with a directory and ports of its own. A `Nodes` owns the processes that it
starts and ends each by its id. Blocking; for demonstrations and measurements.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.clients import client
from tests.cluster.cluster import wait_for
from tests.cluster.member import Member
from tests.support.datastore import Kind, StartError
from tests.support.ports import free_ports
from tests.support.program import KVSHIM

COMMAND_SECONDS_MAX = 30.0
READY_SECONDS_MAX = 40.0
NAMES = ("one", "two", "three", "four", "five")


def kvshim(command: str, data_dir: Path, *arguments: str) -> str:
    """What a command about a running node prints. Raises `StartError` with what it says else."""
    done = subprocess.run(
        [str(KVSHIM), command, f"--data-dir={data_dir}", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        raise StartError(f"kvshim {command}: {done.stderr.strip()}")
    return done.stdout


@dataclass(slots=True)
class JoinedMember(Member):
    """A member whose process is `kvshim`, or `kvshim join <address>#<token>` the first time."""

    join_word: str = ""

    def command(self, initial_cluster: str, state: str) -> list[str]:
        """The flags for clients; where it listens for others it says only when it joins."""
        joining = ["join", self.join_word] if self.join_word else []
        peers = [
            f"--listen-peer-urls=https://127.0.0.1:{self.peer_port}",
            f"--initial-advertise-peer-urls=https://127.0.0.1:{self.announced_port}",
        ]
        return [
            str(KVSHIM),
            *joining,
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-metrics-urls=http://127.0.0.1:{self.metrics_port}",
            *(peers if joining else ()),
            *self.flags,
        ]


@dataclass(slots=True)
class Nodes:
    """Nodes by name; the first one founds the cluster."""

    directory: Path
    members: list[Member] = field(default_factory=list)

    def found(self) -> Member:
        """A cluster of one, serving."""
        member = self.prepared()
        member.start("")
        self._wait_serving(member)
        return member

    def prepared(self) -> JoinedMember:
        """The next node, not yet started."""
        client, peer, metrics = free_ports(3)
        name = NAMES[len(self.members)]
        directory = self.directory / name
        member = JoinedMember(Kind.KVSHIM, name, directory, client, peer, peer, metrics)
        self.members.append(member)
        return member

    def add(self, at: Member, member: JoinedMember | None = None) -> Member:
        """`add-node` at one, `join` at the next; it runs when this returns, and may yet copy."""
        member = member or self.prepared()
        address = f"127.0.0.1:{at.peer_port}"
        joins_others = isinstance(at, JoinedMember) and at.join_word
        line = kvshim("add-node", at.data_dir, *(() if joins_others else ("--address", address)))
        member.join_word = line.split()[2]
        member.start("")
        return member

    def wait_voters(self, count: int, seconds: float = READY_SECONDS_MAX) -> None:
        """Until so many members that have started vote."""

        def look() -> bool | None:
            found = self.listed(self.members[0])
            return True if sum(not member.isLearner for member in found) == count else None

        wait_for(look, seconds, self.tails)

    def wait_joined(self, member: Member, seconds: float = READY_SECONDS_MAX) -> None:
        """Until the others know its name."""

        def look() -> bool | None:
            names = {each.name for each in self.listed(self.members[0])}
            return True if member.name in names else None

        wait_for(look, seconds, self.tails)

    def listed(self, at: Member) -> list[pb.Member]:
        """The members as one of them knows them, also without a leader; none if it is silent."""
        with client(at.target) as etcd:
            request = pb.MemberListRequest(linearizable=False)
            answer = etcd.call("etcdserverpb.Cluster/MemberList", request, pb.MemberListResponse)
            return list(answer.members)

    def leader(self) -> Member | None:
        """Who says that it leads."""
        for member in self.members:
            status = member.status()
            if status is not None and status.leader == status.header.member_id:
                return member
        return None

    def wait_leader(self, other_than: Member | None = None) -> Member:
        def look() -> Member | None:
            found = self.leader()
            return None if found is other_than else found

        return wait_for(look, READY_SECONDS_MAX, self.tails)

    def tails(self) -> str:
        """The end of every log."""
        return "\n".join(f"--- {member.name} ---\n{member.tail()}" for member in self.members)

    def _wait_serving(self, member: Member) -> None:
        wait_for(member.status, READY_SECONDS_MAX, self.tails)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members:
            member.kill()
