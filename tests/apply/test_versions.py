"""The cluster's version in the replicated state: raised, carried by snapshots, refused if newer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kvshim.apply import versions
from kvshim.apply.outcome import BatchOutcome, Restored, VersionRaised
from kvshim.apply.versions import LEAST_VERSIONS, kinds_above
from kvshim.errors import StorageError
from kvshim.pb.kvshim.command_pb2 import ClusterVersionRequest, Command
from kvshim.version import FORMAT_VERSION
from raft.interface import LogError
from tests.apply.support import Member
from tests.backend.support import content, eventually


def raised(version: int) -> Command:
    return Command(id=1, cluster_version=ClusterVersionRequest(version=version))


def version_of(member: Member) -> int:
    with member.store.read() as view:
        return view.format_version


def test_every_kind_of_command_says_since_when_it_may_be_proposed() -> None:
    kinds = {field.name for field in Command.DESCRIPTOR.oneofs_by_name["operation"].fields}
    assert kinds == LEAST_VERSIONS.keys()
    assert all(1 <= least <= FORMAT_VERSION for least in LEAST_VERSIONS.values())
    assert kinds_above(FORMAT_VERSION) == frozenset()


def test_it_begins_at_the_first_and_only_ever_rises(tmp_path: Path) -> None:
    member = Member(tmp_path)
    assert version_of(member) == 1
    member.apply(raised(2), raised(1), raised(2))
    member.settle()
    assert version_of(member) == 2
    effects = [e for o in member.outcomes if isinstance(o, BatchOutcome) for e in o.effects]
    assert effects == [VersionRaised(2)]
    member.close()
    again = Member(tmp_path)
    assert version_of(again) == 2
    again.close()


def test_one_beyond_this_program_stops_it_before_anything_is_changed(tmp_path: Path) -> None:
    member = Member(tmp_path)
    member.put_through(5)
    member.settle()
    applied = member.store.applied_index
    member.apply(raised(FORMAT_VERSION + 1))
    assert eventually(lambda: member.failures)
    (failure,) = member.failures
    assert isinstance(failure, StorageError)
    assert "start the newer program" in str(failure)
    assert member.store.applied_index == applied
    assert version_of(member) == 1
    member.close()


def test_an_unknown_command_stops_the_member_before_anything_is_changed(tmp_path: Path) -> None:
    member = Member(tmp_path)
    member.put_through(5)
    member.settle()
    applied, revision = member.store.applied_index, member.store.revision
    unknown = Command()
    unknown.MergeFromString(b"\xa2\x3f\x00")  # field 1012, empty: a kind of the future
    member.apply(unknown)
    assert eventually(lambda: member.failures)
    assert "a command that this version does not know" in str(member.failures[0])
    assert (member.store.applied_index, member.store.revision) == (applied, revision)
    member.close()


def test_a_snapshot_carries_it(tmp_path: Path) -> None:
    ahead, behind = Member(tmp_path / "ahead"), Member(tmp_path / "behind")
    ahead.apply(raised(2))
    behind.install(*ahead.copy_to(behind))
    behind.settle()
    assert version_of(behind) == 2
    assert eventually(lambda: behind.outcomes)
    restored = behind.outcomes[-1]
    assert isinstance(restored, Restored)
    assert restored.version == 2
    ahead.close()
    behind.close()


def test_a_newer_snapshot_is_refused_and_the_store_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "FORMAT_VERSION", 99)
    ahead, behind = Member(tmp_path / "ahead"), Member(tmp_path / "behind")
    behind.put_through(5)
    behind.settle()
    ahead.apply(raised(99))
    path, snapshot = ahead.copy_to(behind)
    files, before = behind.files(), content(behind.store.backend.path)
    with pytest.raises(LogError, match=f"has format 99, this program knows up to {FORMAT_VERSION}"):
        behind.machine.accept(path, snapshot)
    assert behind.files() == files
    assert content(behind.store.backend.path) == before
    ahead.close()
    behind.close()


def test_an_older_program_refuses_the_file(tmp_path: Path) -> None:
    """What the programs before this one look at is the file's own version."""
    member = Member(tmp_path)
    member.apply(raised(2))
    member.settle()
    path = member.store.backend.path
    member.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()
