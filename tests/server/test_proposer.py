"""A proposal gets exactly the outcome that apply made for it, or an honest error."""

from __future__ import annotations

import asyncio

import pytest

from kvshim.errors import (
    Compacted,
    NoLeader,
    RequestTimedOut,
    RequestTimedOutByConnectionLost,
    RequestTimedOutByLeaderFailure,
    RequestTooLarge,
    Stopped,
    TooManyRequests,
)
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.server import proposer as proposer_module
from kvshim.server.proposer import Proposer
from raft import interface as raft
from tests.server.cluster import OTHER, Log


class FakeLog:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.refusal: Exception | None = None

    def propose(self, data: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.commands.append(Command.FromString(data))


def make(timeout_seconds: float = 5.0) -> tuple[Proposer, FakeLog]:
    log = FakeLog()
    return Proposer(log, 7, 1000, timeout_seconds), log


def put(value: bytes = b"v") -> Command:
    return Command(put=rpc_pb2.PutRequest(key=b"k", value=value))


async def started(proposer: Proposer, command: Command) -> asyncio.Task:
    task = asyncio.create_task(proposer.propose(command, rpc_pb2.PutResponse))
    await asyncio.sleep(0)
    return task


async def test_each_caller_gets_its_own_answer():
    proposer, log = make()
    first, second = await started(proposer, put()), await started(proposer, put())
    answers = [
        (log.commands[1].id, Compacted()),
        (12345, rpc_pb2.PutResponse()),  # another member's command
        (log.commands[0].id, rpc_pb2.PutResponse(header=rpc_pb2.ResponseHeader(revision=9))),
    ]
    proposer.settle(answers)
    assert (await first).header.revision == 9
    with pytest.raises(Compacted):
        await second
    assert proposer.pending == 0


async def test_an_unknown_outcome_is_a_timeout_and_is_not_proposed_again():
    proposer, log = make(timeout_seconds=0.02)
    with pytest.raises(RequestTimedOut):
        await proposer.propose(put(), rpc_pb2.PutResponse)
    assert len(log.commands) == 1
    assert proposer.pending == 0


async def test_each_request_has_its_own_deadline():
    proposer, log = make(timeout_seconds=0.2)
    first = await started(proposer, put())
    await asyncio.sleep(0.1)
    second, third = await started(proposer, put()), await started(proposer, put())
    with pytest.raises(RequestTimedOut):
        await first
    assert not second.done()
    proposer.settle([(log.commands[1].id, rpc_pb2.PutResponse())])
    await second
    with pytest.raises(RequestTimedOut):
        await third
    assert proposer.failed_total == 2


async def test_answered_requests_leave_no_deadline_behind():
    proposer, log = make()
    for number in range(100):
        task = await started(proposer, put())
        proposer.settle([(log.commands[number].id, rpc_pb2.PutResponse())])
        await task
    assert len(proposer._deadlines) == 1


async def test_a_request_over_the_limit_is_refused_before_the_log():
    proposer, log = make()
    with pytest.raises(RequestTooLarge):
        await proposer.propose(put(b"x" * 1000), rpc_pb2.PutResponse)
    assert log.commands == []


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (raft.TooManyProposals(), TooManyRequests),
        (raft.NoLeader(), NoLeader),
        (raft.ProposalDropped(), Stopped),
    ],
)
async def test_a_dropped_proposal_is_told_with_its_reason(refusal, error):
    proposer, log = make()
    log.refusal = refusal
    with pytest.raises(error):
        await proposer.propose(put(), rpc_pb2.PutResponse)


async def test_waiting_requests_are_limited(monkeypatch):
    monkeypatch.setattr(proposer_module, "WAITING_MAX", 2)
    proposer, _ = make()
    waiting = [await started(proposer, put()) for _ in range(2)]
    with pytest.raises(TooManyRequests):
        await proposer.propose(put(), rpc_pb2.PutResponse)
    proposer.stop()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [Stopped, Stopped]


async def test_a_cancelled_caller_is_forgotten():
    proposer, log = make()
    task = await started(proposer, put())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert proposer.pending == 0
    proposer.settle([(log.commands[0].id, rpc_pb2.PutResponse())])


class Cluster:
    def __init__(self, timeout_seconds: float = 5.0, *, connected: bool = True) -> None:
        self.log = Log()
        self.proposer = Proposer(
            self.log,
            7,
            1000,
            timeout_seconds,
            leadership=self.log.leadership,
            connected_since=lambda _: connected,
        )

    def taken(self) -> list[bytes]:
        return [Command.FromString(data).put.value for data in self.log.taken]

    def answer(self) -> None:
        commands = [Command.FromString(data) for data in self.log.taken]
        self.proposer.settle([(command.id, rpc_pb2.PutResponse()) for command in commands])


async def test_requests_wait_for_a_leader_and_go_to_it_once_in_order():
    cluster = Cluster()
    tasks = [await started(cluster.proposer, put(b"%d" % number)) for number in range(3)]
    assert cluster.taken() == []
    cluster.log.lead(OTHER)
    # A leader that comes and goes is not asked again for what it may have taken.
    cluster.log.lead(0)
    cluster.log.lead(3)
    assert cluster.taken() == [b"0", b"1", b"2"]
    cluster.answer()
    await asyncio.gather(*tasks)


async def test_what_a_leader_refuses_while_it_hands_over_is_offered_again(monkeypatch):
    monkeypatch.setattr(proposer_module, "OFFER_AGAIN_SECONDS", 0.01)
    cluster = Cluster()
    cluster.log.lead(OTHER)
    cluster.log.refusal = raft.TransferInProgress()
    task = await started(cluster.proposer, put())
    await asyncio.sleep(0.03)
    assert cluster.taken() == []
    cluster.log.refusal = None  # the transfer failed: the same leader goes on
    await asyncio.sleep(0.05)
    assert cluster.taken() == [b"v"]
    cluster.answer()
    await task


async def test_no_leader_in_time_is_a_timeout_and_the_request_is_never_sent():
    cluster = Cluster(timeout_seconds=0.02)
    with pytest.raises(RequestTimedOut):
        await cluster.proposer.propose(put(), rpc_pb2.PutResponse)
    assert cluster.proposer._unsent_bytes == 0
    cluster.log.lead(OTHER)
    assert cluster.taken() == []


async def test_a_caller_that_went_is_not_proposed_for():
    cluster = Cluster()
    gone, stays = (
        await started(cluster.proposer, put(b"gone")),
        await started(cluster.proposer, put(b"stays")),
    )
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    cluster.log.lead(OTHER)
    assert cluster.taken() == [b"stays"]
    cluster.proposer.stop()
    await asyncio.gather(stays, return_exceptions=True)


async def test_what_waits_for_a_leader_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(proposer_module, "UNSENT_BYTES_MAX", 1_000)
    cluster = Cluster()
    first = await started(cluster.proposer, put(b"x" * 800))
    with pytest.raises(TooManyRequests):
        await cluster.proposer.propose(put(b"x" * 800), rpc_pb2.PutResponse)
    cluster.log.lead(OTHER)
    cluster.log.lead(0)
    second = await started(cluster.proposer, put(b"x" * 800))
    cluster.proposer.stop()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_the_timeout_names_a_leader_that_failed_and_a_lost_connection():
    failing = Cluster(timeout_seconds=0.1)
    failing.log.lead(OTHER)
    task = await started(failing.proposer, put())
    await asyncio.sleep(0.01)
    failing.log.lead(0)
    failing.log.lead(3)
    with pytest.raises(RequestTimedOutByLeaderFailure):
        await task
    assert failing.taken() == [b"v"]
    cut_off = Cluster(timeout_seconds=0.02, connected=False)
    cut_off.log.lead(OTHER)
    await asyncio.sleep(0.001)
    with pytest.raises(RequestTimedOutByConnectionLost):
        await cut_off.proposer.propose(put(), rpc_pb2.PutResponse)
