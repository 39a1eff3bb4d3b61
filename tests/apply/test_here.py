"""What takes no longer than a moment is applied on the log's own thread, in its turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvshim.apply import machine
from kvshim.apply.outcome import BatchOutcome, Outcome
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from tests.apply.support import Member, put
from tests.backend.support import eventually

WAIT_SECONDS = 10.0
KEY = b"key07"
RANGE = rpc_pb2.RangeRequest(key=KEY)
PUT = rpc_pb2.PutRequest(key=KEY, value=b"v")


class Told:
    """Outcomes with the threads that told them; `gate`, while clear, keeps these waiting."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.batches: list[BatchOutcome] = []
        self.told = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, outcome: Outcome) -> None:
        assert isinstance(outcome, BatchOutcome)
        self.threads.append(threading.current_thread())
        self.batches.append(outcome)
        self.told.set()
        assert self.gate.wait(WAIT_SECONDS)

    @property
    def here(self) -> list[bool]:
        return [thread is threading.current_thread() for thread in self.threads]

    @property
    def revisions(self) -> list[int]:
        return [event.revision for batch in self.batches for event in batch.events]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def member(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[Member]:
    monkeypatch.setattr(machine, "SHORT_SECONDS", 3600.0)  # A busy machine may take its time.
    member = Member(tmp_path, told)
    rest(member)
    yield member
    told.gate.set()
    member.close()


def rest(member: Member) -> None:
    """Wait until the apply thread rests."""
    assert eventually(lambda: member.machine._idle)


def apply_on_a_log_that_is_held_up(member: Member, told: Told) -> threading.Thread:
    """The log's thread, in the midst of a batch until `told.gate` is set."""
    told.gate.clear()
    log = threading.Thread(target=member.apply, args=(put(2),))
    log.start()
    assert told.told.wait(WAIT_SECONDS)
    return log


def txn(**fields: object) -> Command:
    return Command(id=1, txn=rpc_pb2.TxnRequest(**fields))


def op(**fields: object) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(**fields)


GUARDED = txn(
    compare=[rpc_pb2.Compare(key=KEY, target=rpc_pb2.Compare.MOD)],
    success=[op(request_put=PUT)],
    failure=[op(request_range=RANGE)],
)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(Command(id=1, put=PUT), id="put"),
        pytest.param(GUARDED, id="guarded"),
        pytest.param(
            txn(success=[op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=KEY))]),
            id="guarded delete",
        ),
        pytest.param(Command(id=1, delete_range=rpc_pb2.DeleteRangeRequest(key=KEY)), id="delete"),
        pytest.param(
            Command(id=1, lease_grant=rpc_pb2.LeaseGrantRequest(TTL=60, ID=5)), id="lease"
        ),
    ],
)
def test_a_short_command_wakes_no_other_thread(member: Member, told: Told, command: Command):
    member.apply(command)
    assert told.here == [True]
    assert member.store.applied_index == member.handed


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(
            [Command(id=1, delete_range=rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"\x00"))],
            id="range deleted",
        ),
        pytest.param([txn(success=[op(request_txn=GUARDED.txn)])], id="nested"),
        pytest.param(
            [txn(failure=[op(request_range=rpc_pb2.RangeRequest(key=b"a", range_end=b"z"))])],
            id="range read",
        ),
        pytest.param(
            [
                txn(
                    success=[
                        op(
                            request_delete_range=rpc_pb2.DeleteRangeRequest(
                                key=b"a", range_end=b"z"
                            )
                        )
                    ]
                )
            ],
            id="range deleted in a txn",
        ),
        pytest.param(
            [txn(compare=[rpc_pb2.Compare(key=b"a", range_end=b"z")])], id="range compared"
        ),
        pytest.param([txn(compare=[rpc_pb2.Compare(key=KEY)] * 9)], id="many compares"),
        pytest.param([txn(success=[op(request_range=RANGE)] * 9)], id="many operations"),
        pytest.param([put(number) for number in range(65)], id="many entries"),
        pytest.param([put(1, b"v" * (256 << 10))], id="large"),
        pytest.param([put(1), Command(id=1, compaction=rpc_pb2.CompactionRequest())], id="others"),
    ],
)
def test_whatever_may_take_long_is_left_to_the_apply_thread(
    member: Member, told: Told, commands: list[Command]
):
    member.apply(*commands)
    member.settle()
    assert told.here == [False]


def test_what_comes_behind_long_work_waits_for_it(member: Member, told: Told):
    told.gate.clear()
    member.apply(put(2), Command(id=9, delete_range=rpc_pb2.DeleteRangeRequest(range_end=b"\x00")))
    assert told.told.wait(WAIT_SECONDS)
    member.apply(put(3))
    told.gate.set()
    member.settle()
    assert eventually(lambda: len(told.batches) == 2)
    assert told.here == [False, False]
    assert told.revisions == sorted(told.revisions)
    rest(member)
    member.apply(put(4))
    assert told.here == [False, False, True]


def test_a_short_command_does_not_overtake_what_the_thread_has_not_yet_taken(
    member: Member, told: Told
):
    with member.machine._changed:  # The thread is told, and cannot wake.
        member.apply(Command(id=9, delete_range=rpc_pb2.DeleteRangeRequest(range_end=b"\x00")))
        member.apply(put(3))
    member.settle()
    assert not any(told.here)


def test_a_log_that_syncs_slowly_writes_on_meanwhile(member: Member, told: Told):
    member.machine._sync_seconds = lambda: 0.005
    member.apply(put(2))
    member.settle()
    member.machine._sync_seconds = lambda: 0.0005
    rest(member)
    member.apply(put(3))
    assert told.here == [False, True]


def test_after_a_batch_that_took_long_the_log_keeps_to_its_heartbeats(member: Member, told: Told):
    member.machine._batch_seconds = 2 * machine.SHORT_SECONDS
    member.apply(put(2))
    member.settle()
    rest(member)
    member.apply(put(3))
    assert told.here == [False, True]


def test_a_checkpoint_that_needs_a_pause_does_not_keep_the_log_waiting(member: Member, told: Told):
    with member.store.backend.gate.paused(0.0):
        member.apply(put(2))
        assert told.batches == []
    member.settle()
    assert told.here == [False]


def test_applying_is_held_only_when_the_batch_on_the_logs_thread_is_done(
    member: Member, told: Told
):
    log = apply_on_a_log_that_is_held_up(member, told)
    held: list[int] = []
    holder = threading.Thread(target=lambda: held.append(member.machine.hold()))
    holder.start()
    assert eventually(lambda: member.machine._held)
    holder.join(0.05)
    assert holder.is_alive()
    told.gate.set()
    log.join(WAIT_SECONDS)
    holder.join(WAIT_SECONDS)
    assert held == [member.handed]
    member.apply(put(3))
    assert member.store.applied_index == member.handed - 1
    member.machine.release()
    member.settle()
    assert told.threads == [log, member.machine._worker]


def test_stopping_waits_for_the_batch_on_the_logs_thread(member: Member, told: Told):
    log = apply_on_a_log_that_is_held_up(member, told)
    stopping = threading.Thread(target=member.machine.stop)
    stopping.start()
    assert eventually(lambda: member.machine._stopping)
    member.machine._worker.join(0.05)
    assert member.machine._worker.is_alive()
    told.gate.set()
    log.join(WAIT_SECONDS)
    stopping.join(WAIT_SECONDS)
    assert not member.machine._worker.is_alive()


def test_upkeep_asked_for_meanwhile_is_done_afterwards(
    member: Member, told: Told, monkeypatch: pytest.MonkeyPatch
):
    upkeep = threading.Event()

    def between_batches() -> bool:
        upkeep.set()
        return False

    log = apply_on_a_log_that_is_held_up(member, told)
    monkeypatch.setattr(member.store, "between_batches", between_batches)
    member.machine.wake()
    assert not upkeep.wait(0.05)
    told.gate.set()
    assert upkeep.wait(WAIT_SECONDS)
    log.join(WAIT_SECONDS)


def test_what_fails_on_the_logs_thread_ends_applying(member: Member, told: Told):
    def fail(_: int) -> None:
        raise OSError("no more")

    member.machine.on_applied = fail
    member.apply(put(2))
    assert [str(failure) for failure in member.failures] == ["no more"]
    assert eventually(lambda: not member.machine._worker.is_alive())
    applied = member.store.applied_index
    member.apply(put(3))
    assert member.store.applied_index == applied
