"""Short batches share a transaction of the store, whichever thread applies them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvshim.apply import machine
from kvshim.apply.dispatch import Applier
from kvshim.errors import CorruptStore
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.types import KeyRange
from tests.apply.support import Member, put
from tests.backend.support import eventually

ALL_KEYS = rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0")


@pytest.fixture(params=["log's thread", "apply thread"])
def member(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Member]:
    """Its first entry is applied and committed, and nothing commits what follows by itself."""
    monkeypatch.setattr(machine, "SHORT_SECONDS", 3600.0)
    if request.param == "apply thread":
        monkeypatch.setattr(machine, "FAST_SYNC_SECONDS", 0.0)
    member = Member(tmp_path)
    member.store.backend.checkpointer.stop()
    apply(member, put(2))
    commits(member)
    yield member
    member.close()


def apply(member: Member, *commands: Command) -> None:
    batches = len(member.timings) + 1
    member.apply(*commands)
    assert eventually(lambda: len(member.timings) == batches)


def commits(member: Member) -> int:
    """COMMITs that the batches told of since this was last asked."""
    told = sum(len(timing.commit_seconds) for timing in member.timings)
    member.timings.clear()
    return told


def count(member: Member) -> int:
    with member.store.read() as view:
        return len(list(view.select(KeyRange(b"", None))))


def test_short_batches_share_a_commit(member: Member) -> None:
    for index in range(3, 10):
        apply(member, put(index))
    assert commits(member) == 0
    assert count(member) == 8
    apply(member, put(10))
    assert commits(member) == 2  # The read's, and that of the batch behind a read.


def test_what_may_take_long_shares_none(member: Member) -> None:
    """A read would have to wait for it."""
    apply(member, put(3))
    assert commits(member) == 0
    apply(member, Command(id=1, delete_range=ALL_KEYS))
    assert commits(member) == 2
    assert count(member) == 0


def test_damage_that_a_batch_finds_takes_none_before_it(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.machine.on_corrupt = lambda _: True
    apply(member, put(3), put(4))
    apply_one = Applier.apply
    found = []

    def find(applier: Applier, *arguments: object) -> object:
        applied = apply_one(applier, *arguments)  # type: ignore[arg-type]
        if not found:
            found.append(True)
            raise CorruptStore("the store is corrupt")
        return applied

    monkeypatch.setattr(Applier, "apply", find)
    member.apply(put(5))
    assert eventually(lambda: member.machine._at_rest)
    assert (member.store.applied_index, count(member)) == (4, 3)
    member.machine.release()
    member.settle()
    assert (member.store.applied_index, count(member)) == (5, 4)
