"""Segments of what was applied: equal on equal members, whatever their batches and beginnings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvshim.apply.rolling import SEGMENT_ENTRIES, SEGMENTS_KEPT
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from tests.apply.support import Member, put


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Member, Member]]:
    members = Member(tmp_path / "one"), Member(tmp_path / "two")
    yield members
    for member in members:
        member.close()


def history(index: int) -> Command:
    """Something of every kind."""
    match index % 7:
        case 0:
            keys = rpc_pb2.DeleteRangeRequest(key=b"key", range_end=b"kez")
            return Command(id=index, delete_range=keys)
        case 1:
            lease = rpc_pb2.LeaseGrantRequest(ID=index, TTL=100)
            return Command(id=index, lease_grant=lease)
        case 2:
            lease = rpc_pb2.LeaseGrantRequest(ID=index - 1, TTL=5)  # refused: it exists
            return Command(id=index, lease_grant=lease)
        case _:
            return put(index)


def feed(member: Member, until: int, batch: int) -> None:
    while member.handed < until:
        end = min(until, member.handed + batch)
        member.apply(*(history(index) for index in range(member.handed + 1, end + 1)))
        member.settle()


def test_batches_and_restarts_do_not_show(two: tuple[Member, Member], tmp_path: Path) -> None:
    one, other = two
    feed(one, 1000, 500)
    feed(other, 300, 7)
    again = Member(tmp_path / "third")
    again.install(*other.copy_to(again))
    again.settle()
    feed(other, 1000, 13)
    feed(again, 1000, 64)
    known = one.machine.rolling.segments()
    assert list(known) == list(range(1, 1001 // SEGMENT_ENTRIES))
    assert other.machine.rolling.segments() == known
    later = again.machine.rolling.segments()
    again.close()
    assert list(later) == list(range(300 // SEGMENT_ENTRIES + 1, 1001 // SEGMENT_ENTRIES))
    assert later.items() <= known.items()


@pytest.mark.parametrize(
    "other",
    [
        put(100, b"another value"),
        Command(id=100, delete_range=rpc_pb2.DeleteRangeRequest(key=b"key10")),
        Command(id=100, lease_grant=rpc_pb2.LeaseGrantRequest(ID=100, TTL=100)),
        Command(id=100, compaction=rpc_pb2.CompactionRequest(revision=50)),
    ],
    ids=["value", "deletion", "lease", "compaction"],
)
def test_what_came_out_differently_shows_in_its_segment(
    two: tuple[Member, Member], other: Command
) -> None:
    one, two_ = two
    feed(one, 99, 50)
    feed(two_, 99, 50)
    one.apply(put(100))
    two_.apply(other)
    feed(one, 400, 50)
    feed(two_, 400, 50)
    ours, theirs = one.machine.rolling.segments(), two_.machine.rolling.segments()
    differing = {number for number in ours if ours[number] != theirs[number]}
    assert min(differing) == 100 // SEGMENT_ENTRIES


def test_only_so_many_are_kept(two: tuple[Member, Member]) -> None:
    one, _ = two
    last = SEGMENT_ENTRIES * (SEGMENTS_KEPT + 10)
    one.put_through(last)
    one.settle()
    segments = one.machine.rolling.segments()
    assert len(segments) == SEGMENTS_KEPT
    assert max(segments) == last // SEGMENT_ENTRIES - 1
