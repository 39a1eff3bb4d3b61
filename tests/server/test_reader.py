"""Reads wait for a leader, share their questions, and go stale only where the operator chose it."""

from __future__ import annotations

import asyncio
import itertools
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from kvshim.errors import Compacted, LeaderChanged, RequestTimedOut, Stopped
from kvshim.logs import Event, Logger
from kvshim.mvcc.slices import SlicePlan
from kvshim.mvcc.store import Store as RealStore
from kvshim.server import read_index
from kvshim.server.reader import Reader
from tests.server.cluster import ME, OTHER, Log, Store, settle


class Lines:
    def __init__(self) -> None:
        self.events: list[object] = []

    def info(self, event: object, **_: object) -> None:
        self.events.append(event)

    warn = info


class World:
    def __init__(
        self,
        voters: tuple[int, ...] = (1, 2, 3),
        timeout_seconds: float = 5.0,
        stale_reads: bool = False,
    ) -> None:
        self.log, self.store, self.lines = Log(voters), Store(), Lines()
        self.reader = Reader(
            cast("RealStore", self.store),
            self.log,
            ThreadPoolExecutor(1),
            timeout_seconds,
            self.log.leadership,
            stale_reads=stale_reads,
            logger=cast("Logger", self.lines),
        )

    async def reading(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.reader.linearizable())
        await settle()
        return task


async def test_many_reads_share_one_question_and_late_ones_the_next():
    world = World()
    world.log.lead(OTHER)
    held = world.log.answers_held = asyncio.Event()
    first = await world.reading()
    late = [await world.reading() for _ in range(50)]
    # The later reads may not use an index that was asked for before they came.
    world.log.commit_index = 6
    world.log.answers_held = asyncio.Event()
    held.set()
    await first
    assert world.log.questions == 2
    assert not any(task.done() for task in late)
    world.log.answers_held.set()
    await settle()
    assert not any(task.done() for task in late)
    world.store.applied_index = 6
    world.reader.advance(6)
    await asyncio.wait_for(asyncio.gather(*late), 2)
    assert world.log.questions == 2


async def test_a_member_alone_answers_without_a_turn_of_the_loop():
    world = World(voters=(ME,))
    world.log.lead(ME)
    read = world.reader.linearizable()
    with pytest.raises(StopIteration):
        read.send(None)


async def test_a_read_waits_for_the_store_of_the_member_that_was_asked():
    world = World()
    world.log.lead(OTHER)
    world.log.commit_index = 7
    task = await world.reading()
    assert not task.done()
    world.store.applied_index = 7
    world.reader.advance(7)
    await task


async def test_a_read_without_a_leader_is_answered_by_the_next():
    world = World()
    task = await world.reading()
    assert not task.done()
    world.log.lead(OTHER)
    await asyncio.wait_for(task, 2)


async def test_a_read_whose_leader_dies_is_answered_by_the_next():
    world = World()
    world.log.lead(OTHER)
    held = world.log.answers_held = asyncio.Event()
    task = await world.reading()
    world.log.lead(0)
    held.set()
    await settle()
    world.log.lead(3)
    await asyncio.wait_for(task, 2)


async def test_a_question_lost_on_its_way_is_asked_again(monkeypatch):
    monkeypatch.setattr(read_index, "ASK_AGAIN_SECONDS", 0.02)
    world = World()
    world.log.lead(OTHER)
    world.log.answers_held = asyncio.Event()  # never comes
    task = await world.reading()
    world.log.answers_held = None
    await asyncio.wait_for(task, 2)


async def test_the_error_says_whether_a_leader_was_lost_meanwhile():
    without = World(timeout_seconds=0.05)
    with pytest.raises(RequestTimedOut):
        await without.reader.linearizable()
    losing = World(timeout_seconds=0.05)
    losing.log.lead(OTHER)
    losing.log.answers_held = asyncio.Event()
    task = await losing.reading()
    losing.log.lead(0)
    with pytest.raises(LeaderChanged):
        await task
    assert losing.reader.failed_total == 1


async def test_a_node_that_stops_fails_its_reads():
    world = World()
    task = await world.reading()
    world.reader.stop()
    with pytest.raises(Stopped):
        await asyncio.wait_for(task, 2)


async def test_stale_reads_are_answered_at_once_and_said_once_but_confirm_nothing():
    world = World(stale_reads=True, timeout_seconds=0.2)
    world.log.lead(OTHER)
    world.log.answers_held = asyncio.Event()
    waiting = await world.reading()
    world.log.lead(0)
    # What waited for the leader that is gone waits no longer; nor does what comes now.
    await asyncio.wait_for(waiting, 0.1)
    for _ in range(3):
        await world.reader.linearizable()
    assert world.lines.events == [Event.STALE_READS]
    # A lease's renewal or a health check must not take that for an answer.
    with pytest.raises(RequestTimedOut):
        await world.reader.confirmed()
    world.log.answers_held = None
    world.log.lead(3)
    assert world.lines.events == [Event.STALE_READS, Event.STALE_READS_ENDED]
    await world.reader.linearizable()
    assert world.log.questions >= 2


class Plan:
    """Two slices, and a third that cannot be read."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.closed = False
        self._numbers = itertools.count(1)

    def opening(self, header: bytes) -> bytes:
        return header

    def next_slice(self) -> bytes:
        number = next(self._numbers)
        self.begun.put(number)
        if number == 3:
            raise Compacted
        return b"%d" % number

    def close(self) -> None:
        self.closed = True

    async def reading(self) -> int:
        return await asyncio.to_thread(self.begun.get, timeout=2)


async def test_slices_are_read_while_those_before_them_leave_and_none_further():
    plan = Plan()
    slices = World().reader.slices(cast("SlicePlan", plan), b"head")
    assert await anext(slices) == b"head"
    assert [await plan.reading(), await plan.reading()] == [1, 2]
    await asyncio.sleep(0.02)
    assert plan.begun.empty()
    assert await anext(slices) == b"1"
    assert await plan.reading() == 3
    assert await anext(slices) == b"2"
    with pytest.raises(Compacted):
        await anext(slices)
    assert plan.closed


async def test_a_list_given_up_is_closed_whatever_is_being_read():
    plan = Plan()
    slices = World().reader.slices(cast("SlicePlan", plan), b"head")
    for _ in range(3):
        await anext(slices)
    await slices.aclose()
    assert plan.closed
