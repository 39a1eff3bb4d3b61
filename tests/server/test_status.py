"""The arithmetic of majorities, as an operator is told it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.backend.backups import BackupRecord, last_backup, note_backup
from kvshim.config import Config, Loaded, load
from kvshim.config.role_numbers import RoleNumbers
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pki.files import Pki
from kvshim.server.expiry import expiries, warnings
from kvshim.server.status import quorum


def voters(count: int) -> list[Member]:
    return [Member(id=number) for number in range(1, count + 1)] + [Member(id=99, learner=True)]


@pytest.mark.parametrize(
    ("count", "majority", "failures", "warnings"),
    [(1, 1, 0, 1), (2, 2, 0, 1), (3, 2, 1, 0), (4, 3, 1, 1), (5, 3, 2, 0)],
)
def test_majority_and_what_may_fail(
    count: int, majority: int, failures: int, warnings: int
) -> None:
    members = voters(count)
    found = quorum(members, {member.id for member in members}, RoleNumbers())
    assert (found["voters"], found["majority"]) == (count, majority)
    assert found["failures_tolerated"] == failures
    assert len(found["warnings"]) == warnings, found["warnings"]


def test_a_node_alone_and_one_with_two_standbys_are_no_surprise() -> None:
    assert quorum([Member(id=1)], {1}, RoleNumbers())["warnings"] == []
    standbys = [Member(id=2, learner=True), Member(id=3, learner=True)]
    assert quorum([Member(id=1), *standbys], {1}, RoleNumbers())["warnings"] == []


def test_one_voter_of_two_nodes_is_no_surprise_where_one_is_wanted() -> None:
    two = [Member(id=1), Member(id=2, learner=True)]
    assert "add a third" in quorum(two, {1}, RoleNumbers())["warnings"][0]
    assert quorum(two, {1}, RoleNumbers(voters=1, standbys=0))["warnings"] == []


def test_a_majority_on_the_edge_and_one_that_is_lost_are_warnings() -> None:
    assert "one more voter lost" in quorum(voters(3), {1, 2}, RoleNumbers())["warnings"][0]
    assert (
        "1 of 3 voters are reached, 2 are needed"
        in quorum(voters(3), {1, 99}, RoleNumbers())["warnings"]
    )


DAY = 86_400.0


def test_certificates_near_their_end_and_unreadable_ones_are_warnings(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    pki = Pki.of(tmp_path)
    pki.found(1, 2, [], now - 350 * DAY)
    broken = tmp_path / "server.crt"
    broken.write_text("no certificate")
    config = config_of("--cert-file", str(broken), "--key-file", str(broken))
    found = expiries(config, tmp_path)
    assert [expiry.kind for expiry in found] == ["member", "CA", "clients"]
    member, ca, clients = found
    assert member.not_after == pki.node().not_after
    assert ca.days_left(now) > 19 * 365 - 350
    near, unreadable = warnings(found, now)
    assert f"member in {pki.node_file} expires in {member.days_left(now)} days" in near
    assert 0 < member.days_left(now) < 30
    assert "clients" in unreadable
    assert clients.error
    assert "has expired" in warnings(found, now + 40 * DAY)[0]
    assert len(warnings(found, now - 100 * DAY)) == 1


def config_of(*flags: str) -> Config:
    loaded = load(flags, {})
    assert isinstance(loaded, Loaded)
    return loaded.config


def test_the_last_backup_is_what_was_noted_last(tmp_path: Path) -> None:
    assert last_backup(tmp_path) is None
    for revision in (7, 8):
        note_backup(tmp_path, BackupRecord(1_800_000_000.0, "recover", "/kept", revision))
    assert last_backup(tmp_path) == BackupRecord(1_800_000_000.0, "recover", "/kept", 8)
    (tmp_path / "last-backup.json").write_text("{")
    assert last_backup(tmp_path) is None
