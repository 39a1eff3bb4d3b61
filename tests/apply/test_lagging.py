"""A member that lacks what was cut from the log: one snapshot brings it back, however slow it is.

The members of `test_adopting`: real cores, logs and stores; only the network is a function call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from raft.member import RetentionOptions
from tests.apply.test_adopting import IDS, One, World
from tests.raft.test_members import QUICK, until

KEPT = 20
OPTIONS = replace(
    QUICK,
    cache_bytes_max=0,
    retention=RetentionOptions(entries_kept=KEPT, slice_entries_max=50),
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, OPTIONS)
    for number in IDS:
        await made.start(number)
    yield made
    for member in list(made.members.values()):
        await member.stop()


async def leave_behind(world: World) -> One:
    """Stop a follower until the leader's log begins behind all that it has."""
    one = await world.follower()
    await world.put(range(10))
    await world.settle(11)
    del world.members[one.number]
    await one.stop()
    number = 10

    async def cut() -> bool:
        nonlocal number
        await world.put(range(number, number + 10))
        number += 10
        await world.settle(number + 1)
        leader = await world.leader()
        return leader.node.status().first_index > one.node.status().last_index + 1

    while not await cut():
        assert number < 5_000
    world.next = number
    return one


async def test_what_is_written_while_a_snapshot_is_sent_and_taken_is_kept_for_it(world: World):
    one = await leave_behind(world)
    leader = await world.leader()

    async def write(entries: int) -> None:
        for _ in range(entries // KEPT):
            await world.put(range(world.next, world.next + KEPT))
            world.next += KEPT
            await until(lambda: leader.store.revision == world.next + 1)

    cut = asyncio.Event()

    async def lose_the_answer() -> None:
        await write(10 * KEPT)
        world.net.cut.add(one.number)
        cut.set()

    world.on_sending = lose_the_answer
    one = await world.start(one.number)
    await cut.wait()
    await until(lambda: one.log_file.generation == 2)
    await write(10 * KEPT)
    world.net.cut.clear()
    await world.settle(world.next + 1)
    assert world.equal()
    assert world.sent == 1


async def test_the_log_is_cut_again_once_it_has_caught_up(world: World):
    one = await leave_behind(world)
    await world.start(one.number)
    await world.settle(world.next + 1)
    leader = await world.leader()

    async def short() -> bool:
        await world.put(range(world.next, world.next + KEPT))
        world.next += KEPT
        await world.settle(world.next + 1)
        status = leader.node.status()
        return status.last_index - status.first_index < 3 * KEPT

    for _ in range(200):
        if await short():
            return
    pytest.fail("the log is kept for a member that needs it no more")
