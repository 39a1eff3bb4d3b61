"""Auth while it is on: what users without the role root may do with keys, leases and watches."""

import time

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api import ops
from tests.api.errors import EMPTY_KEY, LEASE_NOT_FOUND, refused
from tests.api.users import (
    INVALID_MANAGEMENT,
    PERMISSION_DENIED,
    READ,
    READWRITE,
    ROLE_NOT_FOUND,
    ROOT_PASSWORD,
    USER_EMPTY,
    USER_NOT_FOUND,
    WRITE,
    UserClient,
    add_root,
    add_user,
    auth,
    grant,
    login,
)

BOTH = (READWRITE, b"both/", b"both0")


class People:
    """A server with authentication on, and a client for each of its users."""

    def __init__(self, launch) -> None:
        self.nobody = launch("--bcrypt-cost=4")
        add_root(self.nobody)
        add_user(
            self.nobody, "ann", (READ, b"read/", b"read0"), (WRITE, b"write/", b"write0"), BOTH
        )
        add_user(self.nobody, "bob", (READWRITE, b"bob", b""))
        add_user(self.nobody, "all", (READWRITE, b"\x00", b"\x00"))
        add_user(self.nobody, "idle")
        auth(self.nobody, "Enable")
        self.clients: dict[str, UserClient] = {}

    def __getattr__(self, name: str) -> UserClient:
        password = ROOT_PASSWORD if name == "root" else name
        if name not in self.clients:
            token = login(self.nobody, name, password)
            self.clients[name] = UserClient(self.target, ("token", token))
        return self.clients[name]

    @property
    def target(self) -> str:
        return self.nobody.target

    def forget(self) -> None:
        """Everybody logs in again: permissions have changed."""
        for client in self.clients.values():
            client.close()
        self.clients.clear()


@pytest.fixture(scope="module")
def people(launch):
    people = People(launch)
    yield people
    people.forget()


def denied():
    return refused(PERMISSION_DENIED)


# --- keys


def test_who_says_nothing_may_nothing(people):
    nobody = people.nobody
    for call in (
        lambda: nobody.range(b"k"),
        lambda: nobody.range_stream(b"k"),
        lambda: nobody.put(b"k"),
        lambda: nobody.delete(b"k"),
        lambda: nobody.txn([ops.put(b"k")]),
        lambda: nobody.txn([ops.get(b"k")]),
        lambda: nobody.compact(1),
        lambda: nobody.grant(60),
        lambda: nobody.revoke(1),
        lambda: nobody.time_to_live(1),
        nobody.leases,
        lambda: nobody.keep_alive(1),
        nobody.members,
        nobody.status,
        lambda: nobody.alarm(pb.AlarmRequest.GET),
        lambda: nobody.alarm(pb.AlarmRequest.DEACTIVATE),
        nobody.hash,
        nobody.hash_kv,
        nobody.defragment,
        lambda: auth(nobody, "UserAdd", name="x", password="x"),
        lambda: auth(nobody, "UserList"),
        lambda: auth(nobody, "UserGet", name="ann"),
        lambda: auth(nobody, "RoleList"),
        lambda: auth(nobody, "RoleGet", role="ann"),
        lambda: auth(nobody, "Disable"),
        lambda: auth(nobody, "Enable"),
    ):
        with refused(USER_EMPTY):
            call()
    assert auth(nobody, "Status").enabled


def test_a_request_is_checked_before_its_user(people):
    with refused(EMPTY_KEY):
        people.nobody.range(b"")
    with refused(EMPTY_KEY):
        people.nobody.put(b"")
    with refused(EMPTY_KEY):
        people.nobody.txn([ops.get(b"")])


def test_root_may_everything(people):
    root = people.root
    root.put(b"anything", b"1")
    assert root.range(b"\x00", b"\x00").count >= 1
    assert root.status().version
    root.hash_kv()
    root.defragment()
    assert len(root.members().members) == 1


def test_reading_and_writing_are_granted_apart(people):
    ann, root = people.ann, people.root
    root.put(b"read/a", b"1")
    assert ops.values(ann.range(b"read/a")) == [b"1"]
    with denied():
        ann.put(b"read/a")
    with denied():
        ann.delete(b"read/a")
    ann.put(b"write/a", b"1")
    with denied():
        ann.range(b"write/a")
    assert ann.delete(b"write/", b"write0").deleted == 1


def test_the_previous_value_is_for_readers(people):
    ann = people.ann
    ann.put(b"both/p", b"1")
    assert ann.put(b"both/p", b"2", prev_kv=True).prev_kv.value == b"1"
    with denied():
        ann.put(b"write/p", prev_kv=True)
    with denied():
        ann.delete(b"write/p", prev_kv=True)
    assert ann.delete(b"both/p", prev_kv=True).prev_kvs[0].value == b"2"


@pytest.mark.parametrize(
    ("key", "end", "allowed"),
    [
        (b"read/", b"read0", True),
        (b"read/", b"read/z", True),
        (b"read/b", b"read/a", True),  # an empty range counts as its first key
        (b"read/a", b"read/a", True),
        (b"read.", b"read0", False),
        (b"read/", b"read1", False),
        (b"read/", b"\x00", False),
        (b"read0", b"", False),
        (b"reae", b"read/", False),
        (b"\x00", b"\x00", False),
        (b"both/x", b"", True),
        (b"bob", b"", False),
    ],
)
def test_a_range_must_be_covered(people, key, end, allowed):
    for call in (people.ann.range, people.ann.range_stream):
        if allowed:
            call(key, end)
        else:
            with denied():
                call(key, end)


def test_a_permission_from_a_key_on_covers_everything_behind(people):
    user = people.all
    user.range(b"\x00", b"\x00")
    user.range(b"a", b"z")
    user.range(b"a")
    user.delete(b"never", b"never0")


def test_ranges_that_touch_count_as_one(people):
    root = people.root
    add_user(root, "touch", (READ, b"t/a", b"t/c"), (READ, b"t/c", b"t/e"), (READ, b"t/f", b"t/g"))
    people.forget()
    touch = people.touch
    touch.range(b"t/a", b"t/e")
    touch.range(b"t/b", b"t/d")
    with denied():
        touch.range(b"t/a", b"t/g")
    with denied():
        touch.range(b"t/e")


def test_one_key_is_one_key(people):
    bob = people.bob
    bob.put(b"bob", b"1")
    bob.range(b"bob")
    for key in (b"bo", b"bob\x00", b"bobb"):
        with denied():
            bob.range(key)


def test_permissions_of_several_roles_add_up(people):
    root = people.root
    auth(root, "UserGrantRole", user="idle", role="bob")
    people.forget()
    people.idle.put(b"bob", b"2")
    auth(people.root, "UserRevokeRole", name="idle", role="bob")
    people.forget()
    with denied():
        people.idle.put(b"bob", b"3")


# --- transactions


def test_all_of_a_transaction_is_looked_at_whichever_branch_is_taken(people):
    ann = people.ann
    ann.txn(
        [ops.put(b"both/t", b"1"), ops.get(b"read/t"), ops.delete(b"write/t")],
        compare=[ops.when(b"read/t", "version", "=", 0)],
        failure=[ops.put(b"write/t")],
    )
    for bad in (
        {"success": [ops.put(b"read/t")]},
        {"success": [], "failure": [ops.put(b"read/t")]},
        {"success": [], "failure": [ops.get(b"write/t")]},
        {"success": [ops.delete(b"read/t")]},
        {"success": [ops.delete(b"write/t", prev_kv=True)]},
        {"success": [ops.put(b"write/t", prev_kv=True)]},
        {"success": [ops.put(b"both/t")], "compare": [ops.when(b"write/t", "version", "=", 0)]},
        {"success": [], "compare": [ops.when(b"write/t", "version", "=", 0)]},
        {"success": [ops.txn(ops.put(b"read/t"))]},
        {"success": [ops.txn(ops.get(b"read/t"), failure=[ops.get(b"write/t")])]},
        {"success": [ops.get(b"write/t")]},
    ):
        with denied():
            ann.txn(**bad)
    ann.txn([ops.get(b"read/t"), ops.get(b"both/", b"both0")])


# --- leases


def test_leases_are_for_users(people):
    lease = people.idle.grant(60).ID
    assert people.idle.time_to_live(lease).TTL > 0
    assert people.bob.time_to_live(lease).TTL > 0
    assert people.bob.keep_alive(lease)[0].TTL > 0
    people.bob.revoke(lease)


def test_a_lease_with_keys_is_for_those_who_may_write_them(people):
    ann, bob = people.ann, people.bob
    lease = ann.grant(60).ID
    ann.put(b"both/l", b"1", lease=lease)
    with denied():
        bob.put(b"bob", b"1", lease=lease)
    with denied():
        bob.txn([ops.put(b"bob", b"1", lease=lease)])
    with denied():
        bob.revoke(lease)
    with denied():
        bob.keep_alive(lease)
    assert bob.time_to_live(lease).TTL > 0
    with denied():
        bob.time_to_live(lease, keys=True)
    assert list(ann.time_to_live(lease, keys=True).keys) == [b"both/l"]
    with denied():
        bob.leases()
    assert lease in [status.ID for status in people.root.leases().leases]
    assert ann.keep_alive(lease)[0].TTL > 0
    ann.revoke(lease)


def test_a_lease_that_is_not_there(people):
    with refused(LEASE_NOT_FOUND):
        people.bob.revoke(1234)
    with refused(LEASE_NOT_FOUND):
        people.bob.put(b"bob", lease=1234)
    assert people.bob.time_to_live(1234, keys=True).TTL == -1
    assert people.bob.keep_alive(1234)[0].TTL == 0


def test_a_lease_runs_out_though_nobody_asks(people):
    ann = people.ann
    lease = ann.grant(2).ID
    ann.put(b"both/short", b"1", lease=lease)
    deadline = time.monotonic() + 15
    while ann.range(b"both/short").count and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ann.range(b"both/short").count == 0


# --- watches


def test_a_watch_must_be_covered(people):
    ann = people.ann
    with ann.watch_stream() as stream:
        assert not stream.create(b"read/", b"read0").canceled
        response = stream.create(b"write/", b"write0")
        assert (response.watch_id, response.created, response.canceled) == (-1, True, True)
        assert response.cancel_reason == (
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        )
        assert response.header.revision == people.root.revision()
        people.root.put(b"read/w", b"1")
        assert stream.events(1)[0].kv.value == b"1"


def test_a_watch_of_nobody(people):
    with people.nobody.watch_stream() as stream:
        assert stream.create(b"read/").cancel_reason == (
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
        )
        response = stream.create(b"read/", start_revision=-1)
        assert "compacted" in response.cancel_reason


def test_a_watch_with_a_bad_token(people):
    stranger = UserClient(people.target, ("token", "abc.1"))
    with stranger.watch_stream() as stream:
        assert stream.create(b"read/").cancel_reason == (
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        )
    stranger.close()


# --- administration


def test_what_is_for_administrators(people):
    ann = people.ann
    for call in (
        lambda: ann.compact(1),
        ann.hash,
        ann.hash_kv,
        ann.defragment,
        lambda: ann.alarm(pb.AlarmRequest.DEACTIVATE),
        lambda: auth(ann, "UserAdd", name="x", password="x"),
        lambda: auth(ann, "UserDelete", name="bob"),
        lambda: auth(ann, "UserChangePassword", name="ann", password="x"),
        lambda: auth(ann, "UserGrantRole", user="ann", role="root"),
        lambda: auth(ann, "UserRevokeRole", name="ann", role="ann"),
        lambda: auth(ann, "UserList"),
        lambda: auth(ann, "RoleAdd", name="x"),
        lambda: auth(ann, "RoleDelete", role="bob"),
        lambda: auth(ann, "RoleList"),
        lambda: grant(ann, "ann", READ, b"a"),
        lambda: auth(ann, "RoleRevokePermission", role="ann", key=b"a"),
        lambda: auth(ann, "Enable"),
        lambda: auth(ann, "Disable"),
        lambda: ann.call(
            "etcdserverpb.Cluster/MemberRemove",
            pb.MemberRemoveRequest(ID=1),
            pb.MemberRemoveResponse,
        ),
        lambda: ann.call(
            "etcdserverpb.Maintenance/MoveLeader",
            pb.MoveLeaderRequest(targetID=1),
            pb.MoveLeaderResponse,
        ),
    ):
        with denied():
            call()


def test_what_every_user_may_know(people):
    idle = people.idle
    assert idle.status().leader
    assert len(idle.members().members) == 1
    assert list(idle.alarm(pb.AlarmRequest.GET).alarms) == []
    assert auth(idle, "Status").enabled


def test_everybody_may_see_himself(people):
    ann = people.ann
    assert list(auth(ann, "UserGet", name="ann").roles) == ["ann"]
    assert len(auth(ann, "RoleGet", role="ann").perm) == 3
    with denied():
        auth(ann, "UserGet", name="bob")
    with denied():
        auth(ann, "RoleGet", role="bob")
    with denied():
        auth(ann, "RoleGet", role="nothing")
    with refused(USER_NOT_FOUND):
        auth(people.root, "UserGet", name="nobody")
    with refused(ROLE_NOT_FOUND):
        auth(people.root, "RoleGet", role="nothing")


def test_root_stays(people):
    root = people.root
    with refused(INVALID_MANAGEMENT):
        auth(root, "UserDelete", name="root")
    with refused(INVALID_MANAGEMENT):
        auth(root, "UserRevokeRole", name="root", role="root")
    with refused(INVALID_MANAGEMENT):
        auth(root, "RoleDelete", role="root")


def test_another_user_with_the_role_root_is_one_too(people):
    auth(people.root, "UserAdd", name="boss", password="boss")
    auth(people.root, "UserGrantRole", user="boss", role="root")
    people.forget()
    people.boss.put(b"anything", b"2")
    people.boss.hash_kv()
