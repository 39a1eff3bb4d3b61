"""What a member checks before it proposes to change the members, and what a learner serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kvshim.api.guard import guard
from kvshim.apply.members import apply_change, apply_update, members_of, store_members
from kvshim.errors import (
    LearnerNotReady,
    NotEnoughStarted,
    NotSupportedForLearner,
    PeerURLExists,
    RequestTimedOut,
    TooManyLearners,
)
from kvshim.logs import Logger
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.rpc import Bidi, ServerStream, Unary
from kvshim.server import members as members_module
from kvshim.server.members import MemberBook
from kvshim.server.proposer import Proposer
from raft.types import ConfChangeRefused
from tests.server.cluster import Log


def url(number):
    return f"http://10.0.0.{number}:2380"


class Cluster:
    """A log that applies at once; it refuses as many changes as `busy` says."""

    def __init__(self, started=(), unstarted=(), learners=(), strict=True):
        self.values = {}
        self.busy = 0
        listed = [Member(id=n, name=f"n{n}", peer_urls=[url(n)]) for n in started]
        listed += [Member(id=n, peer_urls=[url(n)]) for n in unstarted]
        listed += [Member(id=n, peer_urls=[url(n)], learner=True) for n in learners]
        store_members(self, listed)
        self.proposer = Proposer(cast("Any", self), 1, 10_000, 5.0)
        self.book = MemberBook(1, members_of(self), self.proposer, strict=strict)

    def meta(self, name):
        return self.values.get(name)

    def meta_put(self, name, value):
        self.values[name] = value

    def propose(self, data):
        command = Command.FromString(data)
        self._finish(command.id, apply_update(self, command.member_update))

    async def propose_change(self, change):
        if self.busy > 0:
            self.busy -= 1
            raise ConfChangeRefused("another change is under way")
        self._finish(*apply_change(self, change))

    def _finish(self, command_id, applied):
        self.book.observe(applied.effects)
        self.proposer.settle([(command_id, applied.response)])


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(members_module, "CHANGE_SECONDS_MAX", 0.1)
    monkeypatch.setattr(members_module, "PROMOTE_SECONDS_MAX", 0.1)
    monkeypatch.setattr(members_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(members_module, "NAMED_SECONDS_MAX", 0.1)


async def test_who_the_members_are_is_told_once_this_one_has_said_its_name(monkeypatch):
    monkeypatch.setattr(members_module, "NAMED_SECONDS_MAX", 5.0)
    book = Cluster(unstarted=[1, 2]).book
    asked = asyncio.create_task(book.named())
    await asyncio.sleep(0)
    book.replace([Member(id=1, peer_urls=[url(1)]), Member(id=2, name="n2", peer_urls=[url(2)])])
    await asyncio.sleep(0)
    assert not asked.done()
    book.replace([Member(id=1, name="n1", peer_urls=[url(1)])])
    await asyncio.wait_for(asked, 1)


@pytest.mark.parametrize("cluster", [{"started": [1]}, {"started": [2]}, {"unstarted": [1]}])
async def test_a_name_is_not_waited_for_in_vain(cluster):
    """It is said already, or not this member's to say, or nobody is there to say it to."""
    await asyncio.wait_for(Cluster(**cluster).book.named(), 1)


async def test_a_change_waits_for_the_one_before_it():
    cluster = Cluster(started=[1])
    cluster.busy = 3
    member, members = await cluster.book.add([url(2)], learner=True)
    assert [m.id for m in members if m.learner] == [member.id]
    assert list(members) == list(cluster.book.members)


async def test_what_the_log_never_takes_ends_with_etcds_error():
    cluster = Cluster(started=[1], learners=[2])
    cluster.busy = 10_000
    with pytest.raises(LearnerNotReady):
        await cluster.book.promote(2)
    with pytest.raises(RequestTimedOut):
        await cluster.book.remove(2)
    assert len(cluster.book.members) == 2


async def test_a_cluster_of_one_may_grow_and_then_waits_until_the_new_member_started():
    cluster = Cluster(started=[1])
    await cluster.book.add([url(2)], learner=False)
    with pytest.raises(NotEnoughStarted):
        await cluster.book.add([url(3)], learner=False)
    await cluster.book.add([url(4)], learner=True)


@pytest.mark.parametrize(
    ("started", "unstarted", "leaving", "allowed"),
    [
        ([1], [], 1, False),
        ([1, 2], [], 2, True),
        ([1, 2], [3], 2, False),
        ([1, 2], [3], 3, True),
        ([1], [2, 3], 3, False),
    ],
)
async def test_removal_leaves_a_quorum_of_started_members(started, unstarted, leaving, allowed):
    cluster = Cluster(started, unstarted)
    if allowed:
        assert leaving not in [m.id for m in await cluster.book.remove(leaving)]
    else:
        with pytest.raises(NotEnoughStarted):
            await cluster.book.remove(leaving)


async def test_a_promotion_leaves_a_quorum_of_started_members():
    with pytest.raises(NotEnoughStarted):
        await Cluster([1], [2, 3], learners=[4]).book.promote(4)
    members = await Cluster([1], [2, 3], learners=[4], strict=False).book.promote(4)
    assert not any(member.learner for member in members)


async def test_learners_are_limited_but_for_those_that_the_cluster_manages():
    cluster = Cluster(started=[1], learners=[2])
    with pytest.raises(TooManyLearners):
        await cluster.book.add([url(3)], learner=True)
    await cluster.book.add([url(3)], learner=True, managed=True)


async def test_an_address_belongs_to_one_member():
    cluster = Cluster(started=[1, 2])
    for attempt in (cluster.book.add([url(2)], learner=True), cluster.book.update(1, [url(2)])):
        with pytest.raises(PeerURLExists):
            await attempt
    members = await cluster.book.update(1, [url(9)])
    assert list(members[0].peer_urls) == [url(9)]


async def test_listeners_hear_of_each_change():
    cluster, heard = Cluster(started=[1]), []
    cluster.book.listeners.append(lambda members: heard.append([m.learner for m in members]))
    member, _ = await cluster.book.add([url(2)], learner=True)
    await cluster.book.promote(member.id)
    assert sorted(heard[0]) == [False, True]
    assert heard[1] == [False, False]


async def _one(_request: object, _call: object) -> bytes:
    return b"answer"


async def _many(_request: object, _call: object) -> AsyncIterator[bytes]:
    yield b"answer"


async def _both(_call: object) -> None:
    pass


async def _served(method, request):
    log = Log()
    log.lead(2)
    (guarded,) = guard([method], log, cast("Logger", None), 5.0, lambda: True)
    handler = cast("Any", guarded.handler)
    call = SimpleNamespace(metadata={})
    try:
        if isinstance(method, ServerStream):
            assert [reply async for reply in handler(request, call)]
        else:
            await (handler(call) if isinstance(method, Bidi) else handler(request, call))
    except NotSupportedForLearner:
        return False
    return True


RANGE, SERIALIZABLE = rpc_pb2.RangeRequest(), rpc_pb2.RangeRequest(serializable=True)


@pytest.mark.parametrize(
    ("method", "request_", "served"),
    [
        (Unary("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest, _one), RANGE, False),
        (Unary("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest, _one), SERIALIZABLE, True),
        (Unary("/x/Status", rpc_pb2.StatusRequest, _one), rpc_pb2.StatusRequest(), True),
        (Unary("/x/List", rpc_pb2.MemberListRequest, _one), rpc_pb2.MemberListRequest(), False),
        (Bidi("/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, _both), None, False),
        (ServerStream("/x/RangeStream", rpc_pb2.RangeRequest, _many), SERIALIZABLE, False),
        (ServerStream("/grpc.health.v1.Health/Watch", rpc_pb2.RangeRequest, _many), RANGE, True),
    ],
)
async def test_a_learner_serves_what_etcds_does(method, request_, served):
    assert await _served(method, request_) is served
