"""Leases while leaders come and go: none ends early, none is forgotten, each is told anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import cast

import pytest

from kvshim.apply.outcome import LeaseCheckpointed, LeaseGranted, LeaseRevoked
from kvshim.errors import LeaseNotFound, NoLeader, NotLeader, RequestTimedOut
from kvshim.mvcc.records import LeaseRecord
from kvshim.mvcc.store import Store as RealStore
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.server import lessor as lessor_module
from kvshim.server.lease_calls import KEEPALIVE_METHOD, LeaseCalls, LeasePrimacy
from kvshim.server.lease_proposals import LeaseProposals
from kvshim.server.lessor import EXPIRIES_PER_SECOND_MAX, Lessor, NotPrimary
from kvshim.server.proposer import Proposer
from kvshim.server.reader import Reader
from kvshim.types import LeaseID
from tests.server.cluster import ME, OTHER, Log, Store, settle

A, B = LeaseID(1), LeaseID(2)
HOUR = 3600


class World:
    """A lessor on a clock that the test moves; what it proposes is applied when the test allows."""

    def __init__(self, *leases: LeaseRecord) -> None:
        self.time = 100.0
        self.revoked: list[LeaseID] = []
        self.checkpoints: list[list[tuple[LeaseID, int]]] = []
        self.applying = asyncio.Event()
        self.applying.set()
        self.late = False
        self.lessor = Lessor((), self.revoke, lambda: self.time, lambda _: None, self.checkpoint)
        self.lessor.restore(leases)

    async def revoke(self, lease: LeaseID) -> None:
        await self.applying.wait()
        self.revoked.append(lease)
        self.lessor.observe([LeaseRevoked(lease)])

    async def checkpoint(self, leases: Sequence[tuple[LeaseID, int]]) -> None:
        self.checkpoints.append(list(leases))
        if self.late:
            raise RequestTimedOut
        await self.applying.wait()
        self.lessor.observe([LeaseCheckpointed(lease, left) for lease, left in leases])

    async def pass_time(self, seconds: float) -> None:
        self.time += seconds
        self.lessor._changed.set()
        await settle()


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    task = asyncio.create_task(world.lessor.run())
    await asyncio.sleep(0)
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_on_a_follower_no_lease_runs_out_and_none_is_renewed():
    async with running(World(LeaseRecord(A, 10))) as world:
        world.lessor.demote()
        world.lessor.observe([LeaseGranted(B, 10)])
        await world.pass_time(1_000)
        assert world.revoked == []
        with pytest.raises(NotPrimary):
            await world.lessor.keep_alive(A)
        with pytest.raises(NotPrimary):
            world.lessor.time_to_live(B)


async def test_a_new_leader_gives_each_lease_its_full_time_and_one_election_of_grace():
    async with running(World(LeaseRecord(A, 10))) as world:
        world.lessor.demote()
        await world.pass_time(1_000)
        world.lessor.promote(0.5)
        await world.pass_time(10.4)
        assert world.revoked == []
        await world.pass_time(0.1)
        assert world.revoked == [A]


async def test_a_new_leader_goes_on_from_the_checkpoint():
    async with running(World(LeaseRecord(A, HOUR, 400))) as world:
        world.lessor.demote()
        world.lessor.promote(0.5)
        assert world.lessor.time_to_live(A) == (400, HOUR)
        await world.pass_time(400.4)
        assert world.revoked == []
        await world.pass_time(0.1)
        assert world.revoked == [A]


async def test_many_leases_that_a_promotion_makes_end_together_are_spread():
    world = World(*(LeaseRecord(LeaseID(number), 10) for number in range(1, 3_001)))
    world.lessor.demote()
    world.lessor.promote(0.5)
    ends = sorted(entry.deadline - world.time for entry in world.lessor._leases.values())
    assert ends[0] == 10.5
    assert ends[-1] == 13.5
    for first, last in zip(ends, ends[EXPIRIES_PER_SECOND_MAX:], strict=False):
        assert last - first >= 1.0


async def test_who_waits_for_the_end_of_a_lease_is_sent_on_when_the_leader_is_deposed():
    world = World(LeaseRecord(A, 10))
    world.time += 11
    renewal = asyncio.create_task(world.lessor.keep_alive(A))
    await settle()
    world.lessor.demote()
    with pytest.raises(NotPrimary):
        await renewal


async def test_a_revoke_under_way_does_not_hold_up_the_next_term():
    async with running(World(LeaseRecord(A, 10))) as world:
        world.applying.clear()
        await world.pass_time(11)
        world.lessor.demote()
        await settle()
        world.lessor.promote(0.5)
        assert world.lessor.time_to_live(A) == (10, 10)
        world.applying.set()
        await settle()
        assert world.revoked == []


async def test_long_leases_are_checkpointed_and_short_or_renewed_ones_are_not():
    renewed = LeaseID(3)
    async with running(
        World(LeaseRecord(A, HOUR), LeaseRecord(B, 300), LeaseRecord(renewed, HOUR))
    ) as world:
        await world.pass_time(200)
        await world.lessor.keep_alive(renewed)
        await world.lessor.keep_alive(B)
        await world.pass_time(100)
        assert world.checkpoints == [[(A, HOUR - 300)]]
        await world.pass_time(100)
        await world.lessor.keep_alive(renewed)
        assert len(world.checkpoints) == 1


async def test_checkpoints_go_on_and_are_bounded_in_rate(monkeypatch):
    monkeypatch.setattr(lessor_module, "CHECKPOINT_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(lessor_module, "CHECKPOINT_LEASES_MAX", 2)
    leases = [LeaseRecord(LeaseID(number), HOUR) for number in (1, 2, 3)]
    async with running(World(*leases)) as world:
        await world.pass_time(301)
        assert [len(made) for made in world.checkpoints] == [2]
        await asyncio.sleep(0.15)
        assert [len(made) for made in world.checkpoints] == [2, 1]
        await world.pass_time(301)
        await asyncio.sleep(0.15)
        assert dict(world.checkpoints[2] + world.checkpoints[3]) == {
            LeaseID(number): HOUR - 602 for number in (1, 2, 3)
        }


async def test_a_renewal_clears_the_checkpoint_before_it_is_answered():
    async with running(World(LeaseRecord(A, HOUR, 400))) as world:
        world.applying.clear()
        renewal = asyncio.create_task(world.lessor.keep_alive(A))
        await settle()
        assert world.checkpoints == [[(A, 0)]]
        assert not renewal.done()
        world.applying.set()
        assert await renewal == HOUR
        # Then the next leader gives it its full time, and the next renewal costs nothing.
        await world.lessor.keep_alive(A)
        assert len(world.checkpoints) == 1
        world.lessor.demote()
        world.lessor.promote(0.5)
        assert world.lessor.time_to_live(A) == (HOUR, HOUR)


async def test_a_renewal_clears_a_checkpoint_that_is_still_on_its_way():
    async with running(World(LeaseRecord(A, HOUR))) as world:
        world.applying.clear()
        await world.pass_time(300)
        renewal = asyncio.create_task(world.lessor.keep_alive(A))
        await settle()
        assert not renewal.done()
        world.applying.set()
        assert await renewal == HOUR
        assert world.checkpoints == [[(A, HOUR - 300)], [(A, 0)]]
        assert world.lessor._leases[A].remaining_ttl == 0


async def test_a_renewal_clears_a_checkpoint_of_unknown_outcome():
    async with running(World(LeaseRecord(A, HOUR))) as world:
        world.late = True
        await world.pass_time(300)
        world.late = False
        # The checkpoint may still come, so only a renewal that follows it in the log is safe.
        assert await world.lessor.keep_alive(A) == HOUR
        assert world.checkpoints == [[(A, HOUR - 300)], [(A, 0)]]


async def test_a_snapshot_replaces_what_was_known():
    world = World(LeaseRecord(A, 10))
    world.lessor.demote()
    world.lessor.restore([LeaseRecord(B, HOUR, 400)])
    world.lessor.promote(0.5)
    assert world.lessor.leases() == [B]
    assert world.lessor.time_to_live(B) == (400, HOUR)


class Member:
    """One member's lease calls on a log that loses its leader, and the calls it made to others."""

    def __init__(self, *leases: LeaseRecord, timeout_seconds: float = 5.0) -> None:
        self.world = World(*leases)
        self.log, self.store = Log(), Store()
        self.reader = Reader(
            cast("RealStore", self.store),
            self.log,
            ThreadPoolExecutor(1),
            timeout_seconds,
            self.log.leadership,
        )
        self.primacy = LeasePrimacy(self.world.lessor, self.reader, self.log.leadership)
        self.leader: LeaseCalls | None = None
        self.forwarded: list[str] = []
        self.calls = LeaseCalls(
            self.world.lessor, self.reader, self.log.leadership, self.forward, timeout_seconds
        )

    async def forward(self, method: str, payload: bytes) -> bytes:
        self.forwarded.append(method)
        if self.leader is None:
            raise OSError("connection refused")
        if method == KEEPALIVE_METHOD:
            return await self.leader.handle_keepalive(payload)
        return await self.leader.handle_ttl(payload)


async def leader(*leases: LeaseRecord) -> Member:
    member = Member(*leases)
    member.log.lead(ME)
    await settle(20)
    return member


async def test_a_leader_counts_only_once_it_has_applied_what_its_predecessors_committed():
    # Given a new leader whose log ends with a renewal that clears a checkpoint, not yet applied
    member = Member(LeaseRecord(A, HOUR, 2))
    member.log.commit_index = 6
    member.log.lead(ME)
    await settle(20)
    assert not member.world.lessor.primary
    # When it is applied
    member.world.lessor.observe([LeaseCheckpointed(A, 0)])
    member.store.applied_index = 6
    member.reader.advance(6)
    await settle(20)
    # Then the lease has its full time
    assert member.world.lessor.primary
    assert await member.calls.time_to_live(A) == (HOUR, HOUR)
    member.log.lead(OTHER)
    assert not member.world.lessor.primary


async def test_a_follower_asks_the_leader():
    follower, other = Member(LeaseRecord(A, 10)), await leader(LeaseRecord(A, 10))
    follower.log.lead(OTHER)
    follower.leader = other.calls
    other.world.time += 4
    assert await follower.calls.time_to_live(A) == (6, 10)
    assert await follower.calls.keep_alive(A) == 10
    assert await follower.calls.time_to_live(A) == (10, 10)
    for call in (follower.calls.keep_alive, follower.calls.time_to_live):
        with pytest.raises(LeaseNotFound):
            await call(B)
    assert other.world.lessor.renewed_total == 1


async def test_a_call_survives_a_change_of_leader():
    follower, new = Member(LeaseRecord(A, 10)), await leader(LeaseRecord(A, 10))
    follower.log.lead(OTHER)
    renewal = asyncio.create_task(follower.calls.keep_alive(A))
    await settle(20)
    assert follower.forwarded
    follower.log.lead(0)
    await asyncio.sleep(0.1)
    tries = len(follower.forwarded)
    follower.leader = new.calls
    follower.log.lead(3)
    assert await asyncio.wait_for(renewal, 2) == 10
    assert len(follower.forwarded) == tries + 1


async def test_a_follower_that_becomes_leader_answers_itself():
    member = Member(LeaseRecord(A, 10))
    renewal = asyncio.create_task(member.calls.keep_alive(A))
    await settle()
    member.log.lead(ME)
    assert await asyncio.wait_for(renewal, 2) == 10
    assert member.forwarded == []


async def test_a_deposed_leader_does_not_answer_for_its_successor():
    # Given a leader that has not noticed yet that another was elected
    old = await leader(LeaseRecord(A, 10))
    old.log.answers_held = asyncio.Event()
    renewal = asyncio.create_task(old.calls.handle_keepalive(b"\x08\x01"))
    await settle()
    # When it learns of it while it asks for confirmation
    old.log.lead(OTHER)
    old.log.answers_held.set()
    # Then the caller is told to look elsewhere
    with pytest.raises(NoLeader):
        await asyncio.wait_for(renewal, 2)
    assert old.world.lessor.renewed_total == 0


async def test_without_a_leader_a_call_fails_after_the_request_timeout():
    member = Member(LeaseRecord(A, 10), timeout_seconds=0.1)
    with pytest.raises(NoLeader):
        await member.calls.keep_alive(A)
    member.log.lead(OTHER)  # known, and never reached
    with pytest.raises(RequestTimedOut):
        await member.calls.keep_alive(A)


async def test_what_a_leader_decides_carries_its_term_and_a_follower_decides_nothing():
    log = Log()
    proposer = Proposer(log, ME, 1_000, 5.0, leadership=log.leadership)
    proposals = LeaseProposals(proposer, log.leadership)
    log.lead(OTHER)
    with pytest.raises(NotLeader):
        await proposals.revoke(A)
    log.lead(ME)
    tasks = [
        asyncio.create_task(proposals.revoke(A)),
        asyncio.create_task(proposals.checkpoint([(A, 7)])),
    ]
    await settle()
    revoke, checkpoint = [Command.FromString(data) for data in log.taken]
    assert (revoke.lease_revoke.ID, revoke.decided_in_term) == (A, log.term)
    assert (checkpoint.lease_checkpoint.leases[0].remaining_ttl) == 7
    assert checkpoint.decided_in_term == log.term
    proposer.stop()
    await asyncio.gather(*tasks, return_exceptions=True)
