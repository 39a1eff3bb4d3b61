"""A proposal gets exactly the outcome that apply made for it, or an honest error."""

from __future__ import annotations

import asyncio

import pytest

from kvshim.errors import (
    Compacted,
    NoLeader,
    RequestTimedOut,
    RequestTooLarge,
    Stopped,
    TooManyRequests,
)
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.server import proposer as proposer_module
from kvshim.server.proposer import Proposer
from raft import interface as raft


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
