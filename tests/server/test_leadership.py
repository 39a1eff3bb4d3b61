"""Watch streams survive a failover and end when it fails; waiters wake with the leader."""

from __future__ import annotations

import asyncio

from kvshim.server.leadership import Leadership


def make(election_seconds: float = 0.05) -> tuple[Leadership, asyncio.Event]:
    leadership = Leadership(1, election_seconds)
    leaderless = asyncio.Event()
    leadership.on_leaderless(leaderless.set)
    return leadership, leaderless


async def test_three_elections_without_a_leader_are_told_and_not_one_less():
    leadership, leaderless = make()
    loop = asyncio.get_running_loop()
    leadership.observe(2, 1)
    lost = loop.time()
    leadership.observe(0, 2)
    await asyncio.wait_for(leaderless.wait(), 5)
    assert loop.time() - lost >= 3 * 0.05 - 0.005


async def test_streams_go_by_the_longer_timeout_of_two():
    leadership = Leadership(1, 0.01, stream_election_seconds=0.1)
    leaderless = asyncio.Event()
    leadership.on_leaderless(leaderless.set)
    leadership.observe(2, 1)
    loop = asyncio.get_running_loop()
    lost = loop.time()
    leadership.observe(0, 2)
    await asyncio.wait_for(leaderless.wait(), 5)
    assert loop.time() - lost >= 3 * 0.1 - 0.005


async def test_a_failover_is_not_told():
    leadership, leaderless = make()
    leadership.observe(2, 1)
    leadership.observe(0, 2)
    await asyncio.sleep(0.1)
    leadership.observe(3, 2)
    await asyncio.sleep(0.15)
    assert not leaderless.is_set()


async def test_terms_without_a_leader_do_not_start_the_count_anew():
    leadership, leaderless = make()
    leadership.observe(2, 1)
    leadership.observe(0, 2)
    for term in range(3, 8):
        await asyncio.sleep(0.05)
        leadership.observe(0, term)
    assert leaderless.is_set()


async def test_a_node_that_never_saw_a_leader_is_told_too():
    leadership, leaderless = make()
    leadership.start()
    await asyncio.wait_for(leaderless.wait(), 5)


async def test_leaders_are_counted_and_waiters_woken():
    leadership, _ = make()
    waiting = asyncio.create_task(leadership.known())
    await asyncio.sleep(0)
    assert not waiting.done()
    leadership.observe(1, 1)
    await waiting
    assert leadership.leads
    leadership.observe(1, 1)  # nothing new
    leadership.observe(0, 2)
    leadership.observe(3, 3)
    assert leadership.changes_seen == 2
    assert not leadership.leads


async def test_only_what_began_around_a_failover_is_blamed_on_it():
    time = 100.0
    leadership = Leadership(1, 1.0, lambda: time)
    leadership.observe(2, 1)
    time = 200.0
    leadership.observe(0, 2)
    time = 201.0
    leadership.observe(3, 2)
    assert leadership.failed_over_during(199.5)
    assert not leadership.failed_over_during(198.0)
    assert not leadership.failed_over_during(201.5)
