"""Three running members in one process: election, forwarding, reads, hand-over, loss of a quorum.

Real threads, logs on disk and the real core; only the network is a function call on the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from raft.core.messages import Message
from raft.interface import (
    ConfChange,
    ConfChangeRefused,
    EntryKind,
    Index,
    MemberId,
    Membership,
    NoLeader,
    ProposalDropped,
)
from raft.node import Node
from raft.options import NodeOptions
from raft.snapshots import SnapshotSender
from raft.storage import LogStorage
from raft.types import ChangeKind
from tests.raft.test_node import Machine

_T = TypeVar("_T")

QUICK = NodeOptions(tick_seconds=0.02)


class Net:
    """Delivers messages between members of one loop, except to and from those cut off.

    Where there is no way yet, from the first to the second, it says what it does not take.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.cut: set[int] = set()
        self.no_way: set[tuple[int, int]] = set()

    def send(self, messages: Sequence[Message]) -> Sequence[Message]:
        dropped: list[Message] = []
        for message in messages:
            target = self.nodes.get(message.to)
            if (message.sender, message.to) in self.no_way:
                dropped.append(message)
            elif target is not None and not self.cut & {message.to, message.sender}:
                target.received([message])
        return dropped


class Cluster:
    """Members on their own files."""

    def __init__(self, directory: Path, ids: Sequence[int]) -> None:
        self.directory = directory
        self.ids = ids
        self.net = Net()
        self.machines = {number: Machine(voters=ids) for number in ids}

    async def start(self, number: int) -> None:
        storage = LogStorage.open(self.directory / f"{number}.db")
        node = Node(storage, cluster_id=1, member_id=number, options=QUICK)
        machine = self.machines[number]
        machine.tell = node.applied
        node.connect(self.net, SnapshotSender(machine, NoSnapshots(), node, self.directory))
        self.net.nodes[number] = node
        await node.start(machine)

    async def stop(self) -> None:
        for number in list(self.net.nodes):
            await self.kill(number)

    async def kill(self, number: int) -> None:
        await self.net.nodes.pop(number).stop()

    async def leader(self, *, among: Sequence[int] | None = None) -> Node:
        """The one whom a majority follows."""
        numbers = list(self.net.nodes) if among is None else among

        def find() -> Node | None:
            for number in numbers:
                node = self.net.nodes[number]
                follow = [
                    other for other in numbers if self.net.nodes[other].status().leader_id == number
                ]
                if node.status().leads and len(follow) > len(self.ids) // 2:
                    return node
            return None

        return await until(find)

    def others(self, node: Node) -> list[Node]:
        return [other for other in self.net.nodes.values() if other is not node]


class NoSnapshots:
    async def send_snapshot(self, *_: object) -> None:
        raise OSError("no snapshots in this test")


async def until(condition: Callable[[], _T | None], seconds: float = 10.0) -> _T:
    """Wait for something that nobody announces."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path, (1, 2, 3))
    for number in made.ids:
        await made.start(number)
    yield made
    await made.stop()


async def test_commands_of_every_member_reach_every_member_in_one_order(cluster: Cluster) -> None:
    await cluster.leader()
    await asyncio.gather(*(node.leader_known() for node in cluster.net.nodes.values()))
    for number in range(300):
        cluster.net.nodes[1 + number % 3].propose(b"%d" % number)
    await until(lambda: all(len(m.commands) == 300 for m in cluster.machines.values()))

    first, *rest = (machine.commands for machine in cluster.machines.values())
    assert sorted(first, key=int) == [b"%d" % number for number in range(300)]
    assert all(other == first for other in rest)


async def test_what_never_left_for_the_leader_is_proposed_again(cluster: Cluster) -> None:
    """A new leader that has just started, and whom this member has not connected to yet."""
    leader = await cluster.leader()
    follower = cluster.others(leader)[0]
    await follower.leader_known()
    cluster.net.no_way = {(follower.status().member_id, leader.status().member_id)}
    follower.propose(b"x")
    await asyncio.sleep(5 * QUICK.tick_seconds)
    assert not any(machine.commands for machine in cluster.machines.values())
    cluster.net.no_way = set()
    await until(lambda: all(m.commands == [b"x"] for m in cluster.machines.values()), 1.0)


async def test_a_read_on_any_member_covers_what_was_applied_anywhere(cluster: Cluster) -> None:
    leader = await cluster.leader()
    leader.propose(b"x")
    await until(lambda: any(machine.commands for machine in cluster.machines.values()))
    applied = max(machine.applied for machine in cluster.machines.values())
    for node in cluster.net.nodes.values():
        assert await node.read_index() >= applied


async def test_a_lost_leader_is_replaced_and_nothing_is_lost(cluster: Cluster) -> None:
    leader = await cluster.leader()
    leader.propose(b"before")
    await until(lambda: all(machine.commands for machine in cluster.machines.values()))
    await cluster.kill(leader.status().member_id)
    successor = await cluster.leader()
    successor.propose(b"after")
    await until(
        lambda: sum(m.commands == [b"before", b"after"] for m in cluster.machines.values()) == 2
    )

    await cluster.start(leader.status().member_id)
    await until(lambda: all(len(m.commands) == 2 for m in cluster.machines.values()))


async def test_resigning_is_quicker_than_an_election(cluster: Cluster) -> None:
    leader = await cluster.leader()
    began = time.monotonic()
    await leader.resign()
    took = time.monotonic() - began
    successor = await cluster.leader()
    assert successor is not leader
    assert took < QUICK.election_ticks * QUICK.tick_seconds


async def test_without_a_majority_nothing_is_taken_and_reads_end(cluster: Cluster) -> None:
    leader = await cluster.leader()
    cluster.net.cut = {node.status().member_id for node in cluster.others(leader)}
    await until(lambda: leader.status().leader_id == 0)

    with pytest.raises(NoLeader):
        leader.propose(b"x")
    with pytest.raises(NoLeader):
        await leader.read_index()

    cluster.net.cut = set()
    again = await cluster.leader()
    again.propose(b"y")
    await until(lambda: all(m.commands == [b"y"] for m in cluster.machines.values()))


async def test_a_deposed_leader_serves_no_stale_read(cluster: Cluster) -> None:
    old = await cluster.leader()
    cluster.net.cut = {old.status().member_id}
    others = [node.status().member_id for node in cluster.others(old)]
    await until(lambda: any(cluster.net.nodes[number].status().leads for number in others))
    with suppress(ProposalDropped):
        index = await old.read_index()
        raise AssertionError(f"read at {index} without a majority")


async def test_members_change_one_at_a_time(cluster: Cluster) -> None:
    leader = await cluster.leader()
    durable = cluster.machines[leader.status().member_id]
    durable.durable = Index(1)
    async with asyncio.timeout(10):  # until the term's first entry is applied
        while True:
            try:
                await leader.propose_change(ConfChange(ChangeKind.ADD_LEARNER, MemberId(4)))
                break
            except ConfChangeRefused:
                await asyncio.sleep(QUICK.tick_seconds)
    await until(lambda: 4 in leader.status().membership.learners)
    with pytest.raises(ConfChangeRefused, match="caught up"):
        await leader.propose_change(ConfChange(ChangeKind.PROMOTE, MemberId(4)))
    await leader.propose_change(ConfChange(ChangeKind.REMOVE, MemberId(4)))
    await until(lambda: leader.status().membership == Membership.of((1, 2, 3)))
    kinds = [e.kind for batch in durable.batches for e in batch if e.kind]
    assert kinds == [EntryKind.CONF_CHANGE] * 2
