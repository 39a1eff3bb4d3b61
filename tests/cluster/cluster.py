"""A cluster of real processes: forming it, hurting it, asking who leads.

`Cluster` owns its members' processes and, if asked for, the links between them; `close` ends all of
it by process id, also after a failure. Called from the test's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.cluster.links import CUT, Links, Rule, Way
from tests.cluster.member import Member
from tests.cluster.namespaces import Namespaces
from tests.support.datastore import Kind
from tests.support.grpc_client import EtcdClient
from tests.support.logs import require_no_traceback
from tests.support.ports import free_ports

LEADER_SECONDS_MAX = 30.0
START_SECONDS_MAX = 60.0
"""For five processes that load their program at once on two busy cores."""

POLL_SECONDS = 0.02
PORTS_EACH = 4

T = TypeVar("T")


class Wires(Enum):
    """What joins the members: loopback as it is, or something that can be cut."""

    LOOPBACK = auto()
    PROXIES = auto()
    NAMESPACES = auto()


class Cluster:
    """`count` members, started together as a new cluster by `start`."""

    def __init__(
        self,
        count: int,
        directory: Path,
        *flags: str,
        kind: Kind = Kind.KVSHIM,
        wires: Wires = Wires.LOOPBACK,
        seed: int = 1,
    ) -> None:
        self.kind = kind
        self.directory = directory
        self._flags = flags
        self.links: Links | Namespaces | None = None
        match wires:
            case Wires.PROXIES:
                self.links = Links(self._pids, seed)
            case Wires.NAMESPACES:
                self.links = Namespaces(seed)
            case Wires.LOOPBACK:
                pass
        self.members: list[Member] = []
        for number in range(count):
            self.members.append(self._new_member(chr(ord("a") + number)))

    # -- forming

    def start(self) -> Member:
        """Start all at once; the leader, once all know it."""
        self.start_all()
        return self.wait_leader(START_SECONDS_MAX, everyone=True)

    def start_all(self) -> None:
        """Start every member that does not run."""
        for member in self.members:
            if not member.running:
                member.start(self.initial_cluster())

    def initial_cluster(self, members: Sequence[Member] | None = None) -> str:
        """The value of `--initial-cluster`."""
        chosen = self.members if members is None else members
        return ",".join(f"{member.name}={member.peer_url}" for member in chosen)

    def add_member(self) -> Member:
        """One more, not yet started and not yet known to the others."""
        member = self._new_member(chr(ord("a") + len(self.members)))
        self.members.append(member)
        return member

    def restart(self, member: Member) -> None:
        """Start a member that was ended, on its own data."""
        member.start(self.initial_cluster())

    # -- looking

    def leader(self) -> Member | None:
        """The member that says it leads, at the highest term that anyone knows."""
        found: list[tuple[int, Member]] = []
        highest = 0
        for member in self.members:
            status = member.status()
            if status is None:
                continue
            highest = max(highest, status.raftTerm)
            if status.leader == status.header.member_id and status.leader:
                found.append((status.raftTerm, member))
        return next((member for term, member in found if term == highest), None)

    def wait_leader(
        self,
        seconds: float = LEADER_SECONDS_MAX,
        *,
        other_than: Member | None = None,
        everyone: bool = False,
    ) -> Member:
        """The leader; with `everyone`, once all running members name it."""

        def look() -> Member | None:
            for member in self.members:
                member.require_running()
            leader = self.leader()
            if leader is None or leader is other_than:
                return None
            if everyone:
                statuses = [m.status() for m in self.members if m.running and not m.paused]
                named = {status.leader if status else 0 for status in statuses}
                if len(named) != 1 or 0 in named:
                    return None
            return leader

        return wait_for(look, seconds, lambda: f"no leader:\n{self.tails()}")

    def followers(self) -> list[Member]:
        """Everyone but the leader, in the order of names."""
        leader = self.wait_leader()
        return [member for member in self.members if member is not leader]

    def targets(self) -> list[str]:
        return [member.target for member in self.members]

    def wait_same_revision(self, seconds: float = LEADER_SECONDS_MAX) -> int:
        """The revision that all members have, once they do; nobody may write meanwhile."""

        def look() -> int | None:
            revisions = set()
            for member in self.members:
                status = member.status()
                revisions.add(status.header.revision if status else 0)
            return revisions.pop() if len(revisions) == 1 and 0 not in revisions else None

        return wait_for(look, seconds, lambda: f"revisions stay different:\n{self.tails()}")

    def hashes(self, revision: int) -> list[tuple[int, int]]:
        """(hash, compact revision) of every member at a revision."""
        found = []
        for member in self.members:
            client = EtcdClient(member.target)
            try:
                answer = client.hash_kv(revision)
            finally:
                client.close()
            found.append((answer.hash, answer.compact_revision))
        return found

    def tails(self) -> str:
        """The end of every log."""
        return "\n".join(f"--- {member.name} ---\n{member.tail()}" for member in self.members)

    # -- the network between members

    def cut(self, *ways: Way) -> None:
        """Nothing passes these ways, each from the first name to the second."""
        self.degrade(CUT, *ways)

    def isolate(self, *members: Member) -> None:
        """Cut both ways between these and the rest."""
        inside = {member.name for member in members}
        outside = {member.name for member in self.members} - inside
        ways = [(a, b) for a in inside for b in outside]
        self.cut(*ways, *[(b, a) for a, b in ways])

    def degrade(self, rule: Rule, *ways: Way) -> None:
        """Give these ways a rule; without ways, all of them."""
        assert self.links is not None, "this cluster has no links of its own"
        names = [member.name for member in self.members]
        self.links.set(ways or [(a, b) for a in names for b in names if a != b], rule)

    def heal(self) -> None:
        assert self.links is not None
        self.links.heal()

    # -- ending

    def close(self) -> None:
        """End everything that was started."""
        for member in self.members:
            with suppress(ProcessLookupError):
                member.kill()
        if self.links is not None:
            self.links.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """That no log has a traceback is part of every test that has not failed already."""
        self.close()
        if failure is None:
            for member in self.members:
                require_no_traceback(member.log)

    def _new_member(self, name: str) -> Member:
        client, peer, announced, metrics = free_ports(PORTS_EACH)
        member = Member(
            self.kind, name, self.directory / name, client, peer, peer, metrics, self._flags
        )
        match self.links:
            case Links():
                self.links.open(name, announced, peer)
                member.announced_port = announced
            case Namespaces():
                member.host, member.launcher = self.links.open(name)
        return member

    def _pids(self) -> dict[str, int]:
        return {member.name: member.pid for member in self.members if member.running}


def wait_for(look: Callable[[], T | None], seconds: float, why: Callable[[], str]) -> T:
    """What `look` finds, as soon as it finds something; AssertionError with `why` after that."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        assert time.monotonic() < deadline, why()
        time.sleep(POLL_SECONDS)
