"""Deadlines of leases: never early, never forgotten, and bounded in what a client can grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kvshim.apply.outcome import LeaseGranted, LeaseRevoked
from kvshim.errors import LeaseNotFound, NoLeader
from kvshim.server import lessor as lessor_module
from kvshim.server.lessor import HEAP_SLACK, Lessor
from kvshim.types import LeaseID

A, B = LeaseID(1), LeaseID(2)


class World:
    """A lessor with a clock that the test moves, and the revokes that it proposed."""

    def __init__(self, *leases: tuple[LeaseID, int]) -> None:
        self.time = 100.0
        self.revoked: list[LeaseID] = []
        self.failures = 0
        self.expired: list[int] = []
        self.lessor = Lessor(leases, self.revoke, lambda: self.time, self.expired.append)

    async def revoke(self, lease: LeaseID) -> None:
        if self.failures:
            self.failures -= 1
            raise NoLeader
        self.revoked.append(lease)
        self.lessor.observe([LeaseRevoked(lease)])

    async def pass_time(self, seconds: float) -> None:
        self.time += seconds
        self.lessor._changed.set()
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    task = asyncio.create_task(world.lessor.run())
    await asyncio.sleep(0)
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_lease_ends_at_its_deadline_and_not_before():
    async with running(World()) as world:
        world.lessor.observe([LeaseGranted(A, 10)])
        await world.pass_time(9.9)
        assert world.revoked == []
        await world.pass_time(0.1)
        assert world.revoked == [A]
        assert world.expired == [1]


async def test_leases_found_at_start_get_their_full_time():
    async with running(World((A, 5))) as world:
        await world.pass_time(4.9)
        assert world.revoked == []
        await world.pass_time(0.2)
        assert world.revoked == [A]


async def test_keep_alive_moves_the_deadline():
    async with running(World((A, 10), (B, 10))) as world:
        await world.pass_time(8)
        assert await world.lessor.keep_alive(A) == 10
        await world.pass_time(3)
        assert world.revoked == [B]
        assert world.lessor.time_to_live(A) == (7, 10)
        await world.pass_time(7)
        assert world.revoked == [B, A]


async def test_keep_alive_of_a_lease_that_ran_out_waits_for_its_end():
    # Given a lease that has run out and whose revoke is not applied yet
    world = World((A, 10))
    world.time += 11
    # When a client renews it
    renewal = asyncio.create_task(world.lessor.keep_alive(A))
    await asyncio.sleep(0)
    assert not renewal.done()
    # Then the answer comes with the end of the lease
    world.lessor.observe([LeaseRevoked(A)])
    with pytest.raises(LeaseNotFound):
        await renewal


async def test_a_revoke_that_could_not_be_proposed_is_tried_again(monkeypatch):
    monkeypatch.setattr(lessor_module, "RETRY_SECONDS", 0.0)
    async with running(World((A, 10))) as world:
        world.failures = 2
        await world.pass_time(11)
        for _ in range(20):
            await asyncio.sleep(0)
        assert world.revoked == [A]


async def test_all_of_many_leases_end_though_few_revokes_run_at_once():
    leases = [(LeaseID(number), 10) for number in range(1, 101)]
    async with running(World(*leases)) as world:
        await world.pass_time(11)
        for _ in range(300):
            await asyncio.sleep(0)
        assert sorted(world.revoked) == [lease for lease, _ in leases]


async def test_granting_and_revoking_for_ever_does_not_grow_the_queue():
    world = World((A, 10))
    for number in range(10, 10 + 3 * HEAP_SLACK):
        lease = LeaseID(number)
        world.lessor.observe([LeaseGranted(lease, 1_000_000), LeaseRevoked(lease)])
    assert len(world.lessor._heap) <= HEAP_SLACK + 10
    assert world.lessor.leases() == [A]


async def test_leases_are_listed_by_their_end():
    world = World((A, 20), (B, 10))
    assert world.lessor.leases() == [B, A]
    with pytest.raises(LeaseNotFound):
        world.lessor.time_to_live(LeaseID(99))
