"""The gate for new kinds of command, and the leader who raises the cluster's version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from kvshim.apply import versions as table
from kvshim.apply.outcome import VersionRaised
from kvshim.errors import ClusterTooOld
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import ClusterVersionResponse, Command
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.server import versions as module
from kvshim.server.leadership import Leadership
from kvshim.server.members import MemberBook
from kvshim.server.proposer import Proposer
from kvshim.server.versions import ClusterVersion, VersionRaiser
from kvshim.version import FORMAT_VERSION

COMPACT = Command(compaction=rpc_pb2.CompactionRequest(revision=1))
PUT = Command(put=rpc_pb2.PutRequest(key=b"k"))


@pytest.fixture(autouse=True)
def compaction_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    new = {**table.LEAST_VERSIONS, "compaction": 3}
    monkeypatch.setattr(table, "LEAST_VERSIONS", new)
    monkeypatch.setattr(module, "LEAST_VERSIONS", new)


class Log:
    """Takes commands; none is applied."""

    def __init__(self) -> None:
        self.taken: list[Command] = []

    def propose(self, data: bytes) -> None:
        self.taken.append(Command.FromString(data))


async def test_only_the_new_kind_waits_and_goes_on_when_the_version_is_there() -> None:
    log, version = Log(), ClusterVersion(2)
    proposer = Proposer(cast("Any", log), 1, 10_000, 5.0, gate=version)
    new = asyncio.create_task(proposer.propose(COMPACT, rpc_pb2.CompactionResponse))
    old = asyncio.create_task(proposer.propose(PUT, rpc_pb2.PutResponse))
    await asyncio.sleep(0.02)
    assert [command.WhichOneof("operation") for command in log.taken] == ["put"]
    version.observe([VersionRaised(3)])
    await asyncio.sleep(0.02)
    assert [command.WhichOneof("operation") for command in log.taken] == ["put", "compaction"]
    assert version.closed == table.kinds_above(3)
    for task in (new, old):
        task.cancel()


async def test_a_version_that_does_not_come_is_one_sentence_and_nothing_was_proposed() -> None:
    log = Log()
    proposer = Proposer(cast("Any", log), 1, 10_000, 5.0, gate=ClusterVersion(2))
    with pytest.raises(ClusterTooOld, match="needs version 3 of the cluster, which runs at 2"):
        await proposer.propose(COMPACT, rpc_pb2.CompactionResponse)
    assert log.taken == []
    assert proposer.pending == 0


class Raising:
    """A leader of three, whose proposals are applied at once."""

    def __init__(self, announced: Mapping[int, int], version: int = 1) -> None:
        self.announced = dict(announced)
        self.version = ClusterVersion(version)
        self.leadership = Leadership(1, 0.5)
        self.proposer = Proposer(cast("Any", self), 1, 10_000, 5.0)
        members = [Member(id=1), Member(id=2), Member(id=3, learner=True)]
        book = MemberBook(1, members, self.proposer)
        self.raiser = VersionRaiser(
            self.version, self.leadership, book, self.proposer, lambda: self.announced
        )
        self.proposed: list[int] = []

    def propose(self, data: bytes) -> None:
        command = Command.FromString(data)
        self.proposed.append(command.cluster_version.version)
        self.version.observe([VersionRaised(command.cluster_version.version)])
        self.proposer.settle([(command.id, ClusterVersionResponse())])

    async def run(self) -> list[int]:
        task = asyncio.create_task(self.raiser.run())
        await asyncio.sleep(0.1)
        task.cancel()
        return self.proposed


@pytest.mark.parametrize(
    ("announced", "proposed"),
    [
        ({2: FORMAT_VERSION, 3: FORMAT_VERSION}, [FORMAT_VERSION]),
        ({2: FORMAT_VERSION + 1, 3: FORMAT_VERSION + 2}, [FORMAT_VERSION]),
        ({2: FORMAT_VERSION, 3: 1}, []),
        ({2: FORMAT_VERSION}, []),
        ({}, []),
    ],
    ids=["all", "newer than this one", "a learner is older", "one is away", "all are"],
)
async def test_it_is_raised_to_what_all_members_have_announced(
    announced: Mapping[int, int], proposed: list[int]
) -> None:
    leader = Raising(announced)
    leader.leadership.observe(1, 2)
    assert await leader.run() == proposed


async def test_only_the_leader_raises_it_and_only_once() -> None:
    node = Raising({2: FORMAT_VERSION, 3: FORMAT_VERSION})
    node.leadership.observe(2, 2)
    assert await node.run() == []
    node.leadership.observe(1, 3)
    assert await node.run() == [FORMAT_VERSION]
    assert await node.run() == [FORMAT_VERSION]
