"""Auth while it is off: users, roles and permissions are made, listed, changed and removed."""

import base64

import pytest

from kvshim.pb.etcd import auth_pb2
from tests.api.errors import refused
from tests.api.users import (
    INVALID_MANAGEMENT,
    NO_PASSWORD_USER,
    NO_ROOT_ROLE,
    NO_ROOT_USER,
    NOT_ENABLED,
    PASSWORD_TOO_LONG,
    PERMISSION_NOT_GIVEN,
    PERMISSION_NOT_GRANTED,
    READ,
    READWRITE,
    ROLE_EMPTY,
    ROLE_EXISTS,
    ROLE_NOT_FOUND,
    ROLE_NOT_GRANTED,
    USER_EMPTY,
    USER_EXISTS,
    USER_NOT_FOUND,
    WRITE,
    add_user,
    auth,
    grant,
)


@pytest.fixture(scope="module")
def client(launch):
    return launch()


def revision(client):
    return auth(client, "Status").authRevision


def permissions(client, role):
    found = auth(client, "RoleGet", role=role).perm
    return [(perm.permType, perm.key, perm.range_end) for perm in found]


def test_a_fresh_store_has_nobody(fresh):
    status = auth(fresh, "Status")
    assert (status.enabled, status.authRevision) == (False, 1)
    assert status.header.revision == 1
    header = status.header
    assert 0 not in (header.cluster_id, header.member_id, header.raft_term)
    assert list(auth(fresh, "UserList").users) == []
    assert list(auth(fresh, "RoleList").roles) == []


def test_nobody_can_log_in_or_switch_it_on(fresh):
    with refused(NOT_ENABLED):
        auth(fresh, "Authenticate", name="root", password="x")
    with refused(NO_ROOT_USER):
        auth(fresh, "Enable")
    auth(fresh, "UserAdd", name="root", password="x")
    with refused(NO_ROOT_ROLE):
        auth(fresh, "Enable")
    assert auth(fresh, "Disable").header.revision == 1
    assert revision(fresh) == 2


def test_every_change_moves_the_revision_and_no_key(client):
    before, keys = revision(client), client.revision()
    response = auth(client, "UserAdd", name="r1", password="x")
    assert response.header.revision == keys
    assert 0 not in (response.header.member_id, response.header.raft_term)
    auth(client, "RoleAdd", name="r1")
    grant(client, "r1", READ, b"a")
    auth(client, "UserGrantRole", user="r1", role="r1")
    auth(client, "UserChangePassword", name="r1", password="y")
    auth(client, "RoleRevokePermission", role="r1", key=b"a")
    auth(client, "UserRevokeRole", name="r1", role="r1")
    auth(client, "RoleDelete", role="r1")
    auth(client, "UserDelete", name="r1")
    assert revision(client) == before + 9
    assert client.revision() == keys


def test_what_is_refused_moves_nothing(client):
    before = revision(client)
    with refused(USER_EMPTY):
        auth(client, "UserAdd", name="", password="x")
    with refused(ROLE_EMPTY):
        auth(client, "RoleAdd", name="")
    for call in ("UserGet", "UserDelete", "UserChangePassword"):
        with refused(USER_NOT_FOUND):
            auth(client, call, name="nobody")
    with refused(USER_NOT_FOUND):
        auth(client, "UserGrantRole", user="nobody", role="root")
    with refused(USER_NOT_FOUND):
        auth(client, "UserRevokeRole", name="nobody", role="root")
    for call in ("RoleGet", "RoleDelete"):
        with refused(ROLE_NOT_FOUND):
            auth(client, call, role="nothing")
    with refused(ROLE_NOT_FOUND):
        grant(client, "nothing", READ, b"a")
    with refused(ROLE_NOT_FOUND):
        auth(client, "RoleRevokePermission", role="nothing", key=b"a")
    assert revision(client) == before


def test_names_are_taken_once(client):
    add_user(client, "twice")
    with refused(USER_EXISTS):
        auth(client, "UserAdd", name="twice", password="x")
    with refused(ROLE_EXISTS):
        auth(client, "RoleAdd", name="twice")


def test_lists_are_in_order_of_names(fresh):
    for name in ("b", "a", "é", "aa", "Z"):
        auth(fresh, "UserAdd", name=name, password="x")
        auth(fresh, "RoleAdd", name=name)
    assert list(auth(fresh, "UserList").users) == ["Z", "a", "aa", "b", "é"]
    assert list(auth(fresh, "RoleList").roles) == ["Z", "a", "aa", "b", "é"]


def test_roles_of_a_user_are_in_order_and_granted_once(client):
    auth(client, "UserAdd", name="ann", password="x")
    for name in ("z", "m"):
        auth(client, "RoleAdd", name=name)
    for name in ("z", "m", "root"):
        auth(client, "UserGrantRole", user="ann", role=name)
    before = revision(client)
    auth(client, "UserGrantRole", user="ann", role="m")
    assert revision(client) == before
    assert list(auth(client, "UserGet", name="ann").roles) == ["m", "root", "z"]
    with refused(ROLE_NOT_FOUND):
        auth(client, "UserGrantRole", user="ann", role="nothing")
    auth(client, "UserRevokeRole", name="ann", role="root")
    with refused(ROLE_NOT_GRANTED):
        auth(client, "UserRevokeRole", name="ann", role="root")
    auth(client, "RoleDelete", role="z")
    assert list(auth(client, "UserGet", name="ann").roles) == ["m"]


def test_permissions_of_a_role(client):
    auth(client, "RoleAdd", name="perms")
    grant(client, "perms", WRITE, b"m", b"n")
    grant(client, "perms", READ, b"b")
    grant(client, "perms", READWRITE, b"x", b"\x00")
    grant(client, "perms", READWRITE, b"m", b"n")
    assert permissions(client, "perms") == [
        (READ, b"b", b""),
        (READWRITE, b"m", b"n"),
        (READWRITE, b"x", b"\x00"),
    ]
    with refused(PERMISSION_NOT_GRANTED):
        auth(client, "RoleRevokePermission", role="perms", key=b"m")
    auth(client, "RoleRevokePermission", role="perms", key=b"m", range_end=b"n")
    assert permissions(client, "perms") == [(READ, b"b", b""), (READWRITE, b"x", b"\x00")]


def test_of_ranges_from_one_key_only_the_first_is_replaced(client):
    auth(client, "RoleAdd", name="same")
    grant(client, "same", READ, b"a", b"b")
    grant(client, "same", READ, b"a", b"c")
    grant(client, "same", WRITE, b"a", b"c")
    assert permissions(client, "same") == [
        (READ, b"a", b"b"),
        (READ, b"a", b"c"),
        (WRITE, b"a", b"c"),
    ]
    auth(client, "RoleRevokePermission", role="same", key=b"a", range_end=b"c")
    assert permissions(client, "same") == [(READ, b"a", b"b")]


@pytest.mark.parametrize(
    ("key", "range_end"), [(b"", b""), (b"", b"a"), (b"b", b"a"), (b"a", b"a"), (b"", b"\x00")]
)
def test_a_permission_needs_keys(client, key, range_end):
    with refused(INVALID_MANAGEMENT):
        grant(client, "nothing", READ, key, range_end)


def test_a_permission_must_be_given(client):
    with refused(PERMISSION_NOT_GIVEN):
        auth(client, "RoleGrantPermission", name="nothing")


def test_the_role_root_may_do_everything_whatever_it_was_granted(client):
    auth(client, "RoleAdd", name="root")
    grant(client, "root", READ, b"a")
    assert permissions(client, "root") == [(READWRITE, b"", b"\x00")]
    auth(client, "RoleDelete", role="root")


def test_passwords_have_an_end(client):
    with refused(PASSWORD_TOO_LONG):
        auth(client, "UserAdd", name="long", password="x" * 73)
    auth(client, "UserAdd", name="long", password="x" * 72)
    with refused(PASSWORD_TOO_LONG):
        auth(client, "UserChangePassword", name="long", password="x" * 73)


def test_a_user_without_password(client):
    options = auth_pb2.UserAddOptions(no_password=True)
    auth(client, "UserAdd", name="cert", password="ignored", options=options)
    auth(client, "UserChangePassword", name="cert", password="ignored")
    assert list(auth(client, "UserGet", name="cert").roles) == []


def test_a_client_may_send_the_hash_of_a_new_password(client):
    auth(client, "UserAdd", name="hashed", password="x")
    good = base64.b64encode(b"$2a$04$" + b"a" * 53).decode()
    auth(client, "UserChangePassword", name="hashed", hashedPassword=good)
    with refused(NO_PASSWORD_USER):
        auth(client, "UserChangePassword", name="hashed", hashedPassword="no base64")


def test_everything_may_be_removed_while_it_is_off(fresh):
    auth(fresh, "UserAdd", name="root", password="x")
    auth(fresh, "RoleAdd", name="root")
    auth(fresh, "UserGrantRole", user="root", role="root")
    auth(fresh, "UserRevokeRole", name="root", role="root")
    auth(fresh, "RoleDelete", role="root")
    auth(fresh, "UserDelete", name="root")
    assert list(auth(fresh, "UserList").users) == []
