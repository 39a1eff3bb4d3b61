"""Snapshots of the store: whole, refused when they are not, and taken in without a lost byte."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvshim.apply.outcome import Restored
from kvshim.backend.session import Session
from kvshim.errors import Compacted
from kvshim.mvcc.hashing import hash_all
from kvshim.mvcc.records import LeaseRecord
from kvshim.mvcc.slices import SlicePlan, open_range
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from raft.interface import Index, LogError, Membership, Term
from tests.apply.support import KEYS, TERM, Member, put
from tests.backend.support import eventually

ALL = rpc_pb2.RangeRequest(key=b"\x00", range_end=b"\x00")


@pytest.fixture
def ahead(tmp_path: Path) -> Iterator[Member]:
    member = Member(tmp_path / "ahead")
    yield member
    member.close()


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Member]:
    member = Member(tmp_path / "behind")
    yield member
    member.close()


def fingerprint(store: Store) -> int:
    with store.read() as view:
        return hash_all(view)


def test_a_copy_is_one_moment_of_the_store_while_writes_go_on(
    ahead: Member, behind: Member
) -> None:
    ahead.put_through(500)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            ahead.put_through(ahead.handed + 20)
            eventually(lambda: ahead.machine.pending_bytes() == 0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        path = behind.data_dir.path / "received.tmp"
        snapshot = ahead.machine.copy(path)
    finally:
        stop.set()
        writer.join()
    assert snapshot.term == TERM
    assert snapshot.membership == Membership.of([7], [8])
    assert not path.with_name(path.name + "-wal").exists()
    behind.install(path, snapshot)
    behind.settle()
    behind.put_through(ahead.handed)
    behind.settle()
    ahead.settle()
    assert behind.store.revision == ahead.store.revision
    assert fingerprint(behind.store) == fingerprint(ahead.store)
    with behind.store.read() as view:
        assert view.revision == behind.store.applied_index


def test_writers_wait_for_no_copy_and_the_wal_is_reset_after_it(ahead: Member) -> None:
    backend = ahead.store.backend
    object.__setattr__(backend.options, "wal_bytes_max", 200_000)
    copying, finish = threading.Event(), threading.Event()

    def hold(session: Session) -> None:
        session.one("SELECT count(*) FROM kv")
        copying.set()
        assert finish.wait(30)

    path = ahead.data_dir.path / "copy.tmp"
    copier = threading.Thread(target=backend.copy, args=(path, hold))
    copier.start()
    assert copying.wait(10)
    for _ in range(60):
        ahead.apply(put(ahead.handed + 1, b"v" * 50_000))
        assert eventually(lambda: ahead.machine.pending_bytes() == 0, seconds=1)
    ahead.settle()
    assert backend.pinned_seconds() == 0
    assert backend.checkpointer.restarts_total == 0
    finish.set()
    copier.join()
    assert eventually(lambda: backend.checkpointer.restarts_total > 0)
    assert ahead.failures == []


@pytest.mark.parametrize("wrong", ["index", "term", "members", "bytes", "foreign", "cut"])
def test_a_file_that_does_not_hold_its_snapshot_is_refused(
    ahead: Member, behind: Member, wrong: str
) -> None:
    ahead.put_through(400)
    path, snapshot = ahead.copy_to(behind)
    data = bytearray(path.read_bytes())
    match wrong:
        case "index":
            snapshot = replace(snapshot, index=Index(snapshot.index + 1))
        case "term":
            snapshot = replace(snapshot, term=Term(snapshot.term + 1))
        case "members":
            snapshot = replace(snapshot, membership=Membership.of([7]))
        case "bytes":
            data[8 * 4096 : 9 * 4096] = b"\xa5" * 4096
        case "foreign":
            data[68:72] = b"else"
        case "cut":
            del data[len(data) // 2 :]
    path.write_bytes(data)
    with pytest.raises(LogError):
        behind.machine.accept(path, snapshot)
    assert behind.files() == {"kv-1.db"}
    behind.put_through(10)
    behind.settle()


def test_a_snapshot_that_came_twice_is_one_and_overtaken_ones_go(
    ahead: Member, behind: Member
) -> None:
    ahead.put_through(50)
    path, first = ahead.copy_to(behind)
    assert behind.machine.accept(path, first) == 2
    path, again = ahead.copy_to(behind)
    assert again == first
    assert behind.machine.accept(path, again) == 2
    assert not path.exists()
    behind.put_through(60)
    behind.settle()
    ahead.put_through(100)
    path, later = ahead.copy_to(behind)
    assert behind.install(path, later) == 3
    behind.settle()
    assert eventually(lambda: behind.files() == {"kv-3.db"})
    behind.put_through(110)
    behind.settle()
    assert behind.store.revision == 110


def test_entries_handed_over_before_a_snapshot_are_part_of_it(
    ahead: Member, behind: Member
) -> None:
    """Given a queue that the apply thread has not touched, then none of it is applied again."""
    ahead.put_through(300)
    path, snapshot = ahead.copy_to(behind)
    generation = behind.machine.accept(path, snapshot)
    with behind.machine._changed:
        behind.put_through(200)
        behind.machine.install(generation, snapshot)
    assert behind.machine.pending_bytes() == 0
    behind.handed = snapshot.index
    behind.put_through(310)
    behind.settle()
    assert behind.indices[0] == 300
    assert isinstance(behind.outcomes[0], Restored)
    assert behind.store.revision == 310


def test_reads_under_way_end_on_the_store_they_began_on(ahead: Member, behind: Member) -> None:
    behind.put_through(20)
    behind.settle()
    ahead.put_through(80)
    path, snapshot = ahead.copy_to(behind)
    with behind.store.read() as view:
        old = behind.store.backend
        behind.install(path, snapshot)
        behind.settle()
        with behind.store.read() as newer:
            assert newer.revision == 80
        assert view.revision == 20
        assert view.rows("SELECT max(id) >> 24 FROM history", ()) == [(20,)]
        assert old.path.exists(), "an open database was unlinked"
    assert eventually(lambda: not old.path.exists())
    assert behind.files() == {"kv-2.db"}
    assert not list(behind.data_dir.path.glob("kv-1.db*"))


def half_sent(ahead: Member, behind: Member) -> tuple[SlicePlan, bytes, list[bytes]]:
    """A long list at revision 401 on both: one of which a part is sent, and how all of it reads."""
    for member in (ahead, behind):
        member.apply(*(wide(index) for index in range(2, 402)))
        member.settle()
    whole = open_range(behind.store, ALL, 1)
    plan = open_range(behind.store, ALL, 1)
    assert isinstance(whole, SlicePlan)
    assert isinstance(plan, SlicePlan)
    pieces = [whole.opening(b""), *iter(whole.next_slice, b"")]
    return plan, b"".join(pieces), [plan.opening(b"")]


def wide(index: int) -> Command:
    key = b"wide%04d" % (index % 400)
    return Command(put=rpc_pb2.PutRequest(key=key, value=b"%d" % index * 1000))


def test_a_list_half_sent_goes_on_with_the_same_bytes(ahead: Member, behind: Member) -> None:
    """Given a snapshot in which every key has changed, then the rest is read there, at R."""
    plan, whole, pieces = half_sent(ahead, behind)
    ahead.apply(*(wide(index) for index in range(402, 802)))
    behind.install(*ahead.copy_to(behind))
    behind.settle()
    sent = len(pieces)
    pieces += iter(plan.next_slice, b"")
    assert len(pieces) > sent
    assert b"".join(pieces) == whole


def test_a_list_half_sent_is_broken_off_when_its_revision_is_gone(
    ahead: Member, behind: Member
) -> None:
    plan, _, _ = half_sent(ahead, behind)
    ahead.apply(*(wide(index) for index in range(402, 802)))
    ahead.apply(Command(compaction=rpc_pb2.CompactionRequest(revision=801)))
    ahead.settle()
    assert eventually(lambda: ahead.store.physically_compacted == 801)
    behind.install(*ahead.copy_to(behind))
    behind.settle()
    with pytest.raises(Compacted):
        plan.next_slice()
    plan.close()


def test_whoever_was_told_by_the_old_database_is_told_by_the_new(
    ahead: Member, behind: Member
) -> None:
    told: list[str] = []
    backend = behind.store.backend
    backend.on_failure = lambda _: told.append("failure")
    backend.checkpointer.on_checkpoint = lambda _: told.append("checkpoint")
    behind.store.on_compacted = lambda revision: told.append(f"compacted {revision}")
    ahead.put_through(60)
    behind.install(*ahead.copy_to(behind))
    behind.settle()
    del told[:]
    behind.apply(Command(compaction=rpc_pb2.CompactionRequest(revision=50)))
    assert eventually(lambda: {"compacted 50", "checkpoint"} <= set(told))
    assert behind.store.backend.on_failure is not None
    assert backend.on_failure is None


def test_what_others_keep_in_memory_comes_with_the_outcome(ahead: Member, behind: Member) -> None:
    ahead.apply(
        Command(lease_grant=rpc_pb2.LeaseGrantRequest(ID=5, TTL=600)),
        Command(
            alarm=rpc_pb2.AlarmRequest(
                action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=9, alarm=rpc_pb2.NOSPACE
            )
        ),
    )
    behind.install(*ahead.copy_to(behind))
    behind.settle()
    assert eventually(lambda: bool(behind.outcomes))
    (restored,) = behind.outcomes
    assert isinstance(restored, Restored)
    assert list(restored.leases) == [LeaseRecord(5, 600, 0)]
    assert list(restored.alarms) == [(9, rpc_pb2.NOSPACE)]
    assert [member.id for member in restored.members] == [7, 8]
    behind.apply(put(4))
    behind.settle()
    assert behind.store.revision == 1, "the alarm does not hold on the new store"


STEPS = {
    "received": 1,
    "checked": 1,
    "renamed": 1,
    "accepted": 1,
    "named": 2,
    "opened": 2,
    "used": 2,
    "removing": 2,
}
"""Where a process dies, and the generation that its log then names."""


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_a_store_that_starts(tmp_path: Path, step: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-m", "tests.apply.dying", str(tmp_path), step], timeout=60, check=False
    )
    assert killed.returncode == -9
    member = Member(tmp_path / "behind", generation=STEPS[step])
    try:
        assert member.files() == {f"kv-{STEPS[step]}.db"}
        assert member.store.revision == (20 if STEPS[step] == 1 else 80)
        member.put_through(120)
        member.settle()
        assert member.store.revision == 120
        for index in range(81, 121):
            with member.store.read() as view:
                assert view.pair(b"key%02d" % (index % KEYS), view.revision) is not None
    finally:
        member.close()


def test_a_generation_that_the_log_names_and_is_missing_stops_the_node(
    ahead: Member, behind: Member
) -> None:
    """Rather than an empty store taking its place."""
    ahead.put_through(30)
    path, snapshot = ahead.copy_to(behind)
    generation = behind.machine.accept(path, snapshot)
    behind.data_dir.generation_path(generation).unlink()
    behind.machine.install(generation, snapshot)
    assert eventually(lambda: bool(behind.failures))
    assert "missing" in str(behind.failures[0])
