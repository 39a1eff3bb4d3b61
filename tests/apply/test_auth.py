"""Users as replicated state: in log order, in snapshots, after a restart, and by whose right."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvshim.apply.auth import AUTH_KINDS
from kvshim.apply.outcome import BatchOutcome
from kvshim.apply.versions import kinds_above
from kvshim.auth.state import Identity
from kvshim.backend.backend import Backend
from kvshim.errors import (
    AuthFailed,
    AuthNotEnabled,
    AuthOldRevision,
    PermissionDenied,
    RequestError,
    UserEmpty,
)
from kvshim.mvcc.hashing import hash_all
from kvshim.pb.etcd import auth_pb2, rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command, LoginRequest, LoginResponse
from tests.apply.support import TERM, Member, put

HASHED = b64encode(b"$2a$04$" + b"x" * 53).decode()
ROOT = {"user": "root", "auth_revision": 100}


def user_add(name: str) -> Command:
    return Command(user_add=rpc_pb2.AuthUserAddRequest(name=name, hashedPassword=HASHED))


def grant_role(user: str, role: str) -> Command:
    request = rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role)
    return Command(user_grant_role=request)


def permit(role: str, key: bytes) -> Command:
    permission = auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, key=key)
    request = rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission)
    return Command(role_grant_permission=request)


ENABLED = (
    user_add("root"),
    grant_role("root", "root"),
    user_add("ann"),
    Command(role_add=rpc_pb2.AuthRoleAddRequest(name="a")),
    permit("a", b"a"),
    grant_role("ann", "a"),
    Command(auth_enable=rpc_pb2.AuthEnableRequest()),
)
REVISION = 7
"""Of users and permissions, after those."""


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    member = Member(tmp_path / "ahead")
    yield member
    member.close()


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Member]:
    member = Member(tmp_path / "behind")
    yield member
    member.close()


def outcome(member: Member, command: Command) -> object:
    """Apply one command; its response or its error."""
    member.settle()
    member.outcomes.clear()
    member.apply(command)
    member.settle()
    batches = [made for made in member.outcomes if isinstance(made, BatchOutcome)]
    ((_, answer),) = [pair for batch in batches for pair in batch.answers]
    return answer


def as_user(command: Command, user: str, revision: int = REVISION) -> Command:
    signed = Command()
    signed.CopyFrom(command)
    signed.user, signed.auth_revision = user, revision
    return signed


def write(key: bytes) -> Command:
    return Command(put=rpc_pb2.PutRequest(key=key, value=b"1"))


def refusal(member: Member, command: Command) -> type[RequestError]:
    answer = outcome(member, command)
    assert isinstance(answer, RequestError), answer
    return type(answer)


def test_users_exist_in_the_file_only_once_there_are_some(member: Member):
    member.put_through(50)
    member.settle()
    with member.store.read() as view:
        assert view.auth() is None
    member.apply(user_add("ann"))
    member.settle()
    with member.store.read() as view:
        assert view.auth() is not None


def test_users_wait_until_every_member_knows_them():
    assert {*AUTH_KINDS} <= kinds_above(3)
    assert kinds_above(4).isdisjoint(AUTH_KINDS)


def test_a_command_is_judged_by_what_was_applied_before_it_not_when_it_was_proposed(member: Member):
    """The revoke comes first in the log, in the same batch."""
    member.apply(*ENABLED)
    member.settle()
    revoke = rpc_pb2.AuthRoleRevokePermissionRequest(role="a", key=b"a")
    member.outcomes.clear()
    member.apply(
        as_user(write(b"a"), "ann"),
        as_user(Command(role_revoke_permission=revoke), "root"),
        as_user(write(b"a"), "ann"),
        as_user(write(b"a"), "ann", REVISION + 1),
        as_user(write(b"a"), "root", REVISION + 1),
    )
    member.settle()
    answers = [
        type(answer)
        for batch in member.outcomes
        if isinstance(batch, BatchOutcome)
        for _, answer in batch.answers
    ]
    assert answers == [
        rpc_pb2.PutResponse,
        rpc_pb2.AuthRoleRevokePermissionResponse,
        AuthOldRevision,
        PermissionDenied,
        rpc_pb2.PutResponse,
    ]


def test_a_command_without_a_user_is_refused_but_not_the_clusters_own(member: Member):
    lease = rpc_pb2.LeaseGrantRequest(ID=5, TTL=60)
    member.apply(Command(lease_grant=lease), *ENABLED)
    member.apply(as_user(Command(put=rpc_pb2.PutRequest(key=b"x", lease=5)), "root"))
    assert refusal(member, write(b"a")) is UserEmpty
    assert refusal(member, user_add("eve")) is UserEmpty
    revoke = Command(lease_revoke=rpc_pb2.LeaseRevokeRequest(ID=5))
    assert refusal(member, revoke) is UserEmpty
    assert refusal(member, as_user(revoke, "ann")) is PermissionDenied
    revoke.decided_in_term = TERM
    assert isinstance(outcome(member, revoke), rpc_pb2.LeaseRevokeResponse)
    with member.store.read() as view:
        assert view.get(b"x") is None


def test_a_login_makes_the_same_token_everywhere(member: Member, behind: Member):
    for one in (member, behind):
        one.apply(*ENABLED)
    request = Command(login=LoginRequest(name="ann", token_prefix="abc"))
    answers = [outcome(one, request) for one in (member, behind)]
    assert answers[0] == answers[1]
    assert isinstance(answers[0], LoginResponse)
    assert answers[0].token == f"abc.{member.handed}"
    assert answers[0].auth_revision == REVISION
    for one in (member, behind):
        assert one.machine.auth.tokens.use(answers[0].token) == "ann"


def test_a_login_whose_user_has_gone_meanwhile_fails(member: Member):
    login = Command(login=LoginRequest(name="ann", token_prefix="abc"))
    assert refusal(member, login) is AuthNotEnabled
    member.apply(*ENABLED)
    deletion = Command(user_delete=rpc_pb2.AuthUserDeleteRequest(name="ann"))
    member.apply(as_user(deletion, "root"))
    assert refusal(member, login) is AuthFailed


def test_users_come_with_a_snapshot(member: Member, behind: Member):
    behind.apply(user_add("old"))
    behind.settle()
    behind.machine.auth.tokens.assign("abc.1", "old")
    member.apply(*ENABLED)
    behind.install(*member.copy_to(behind))
    behind.put_through(behind.handed)
    behind.settle()
    assert behind.machine.auth.state == member.machine.auth.state
    assert behind.machine.auth.state.enabled
    assert refusal(behind, as_user(write(b"x"), "ann")) is PermissionDenied
    assert isinstance(outcome(behind, as_user(write(b"a"), "ann")), rpc_pb2.PutResponse)


def test_a_snapshot_in_which_it_is_off_ends_all_logins(member: Member, behind: Member):
    behind.apply(*ENABLED)
    behind.settle()
    behind.machine.auth.tokens.assign("abc.1", "ann")
    member.put_through(50)
    behind.install(*member.copy_to(behind))
    behind.put_through(60)
    behind.settle()
    assert not behind.machine.auth.state.enabled
    assert behind.machine.auth.tokens.use("abc.1") is None


def test_users_are_there_after_a_restart(tmp_path: Path):
    first = Member(tmp_path / "same")
    first.apply(*ENABLED)
    first.settle()
    state = first.machine.auth.state
    first.close()
    again = Member(tmp_path / "same")
    try:
        assert again.machine.auth.state == state
        assert again.machine.auth.state.has_role("ann", "a")
        again.machine.auth.state.check_admin(Identity("root", REVISION))
        assert refusal(again, put(again.handed + 1)) is UserEmpty
    finally:
        again.close()


def test_users_count_in_the_hashes_that_members_compare(member: Member, behind: Member):
    member.apply(user_add("ann"))
    behind.apply(user_add("bob"))
    hashes = []
    for one in (member, behind):
        one.put_through(130)
        one.settle()
        with one.store.read() as view:
            hashes.append((hash_all(view), one.machine.rolling.segments()[0 + 1]))
    assert hashes[0][0] != hashes[1][0]


def test_permissions_are_in_place_before_the_store_says_that_it_has_them(
    member: Member, behind: Member, monkeypatch: pytest.MonkeyPatch
):
    """Whoever waited for an entry asks at once, on another thread."""
    seen: list[int] = []
    backend = member.store.backend
    commit, replace = backend.commit, behind.store.replace

    def committing(index: int) -> None:
        seen.append(member.machine.auth.state.revision)
        commit(index)

    def replacing(new: Backend) -> None:
        seen.append(behind.machine.auth.state.revision)
        replace(new)

    monkeypatch.setattr(backend, "commit", committing)
    monkeypatch.setattr(behind.store, "replace", replacing)
    member.apply(*ENABLED)
    member.settle()
    assert seen[-1] == REVISION
    behind.install(*member.copy_to(behind))
    behind.put_through(behind.handed + 1)
    behind.settle()
    assert seen[-1] == REVISION
    assert len(seen) >= 2
