"""Users are the cluster's: a login counts at every member, and what was refused is refused at all.

Also on etcd, by `--datastore=etcd`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.api.errors import refused
from tests.api.users import (
    AUTH_FAILED,
    INVALID_TOKEN,
    PERMISSION_DENIED,
    READWRITE,
    ROOT_PASSWORD,
    UserClient,
    add_root,
    add_user,
    auth,
    grant,
    login,
)
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import FormCluster
from tests.support.grpc_client import EtcdClient

ROUNDS = 12
SERVES_SECONDS_MAX = 40.0


class People:
    """Three members with authentication on, and clients of each."""

    def __init__(self, form: FormCluster) -> None:
        self.cluster: Cluster = form(3, "--bcrypt-cost=4")
        self.made: list[EtcdClient] = []
        self.nobody = [self._kept(EtcdClient(target)) for target in self.cluster.targets()]
        add_root(self.nobody[0])
        add_user(self.nobody[1], "ann", (READWRITE, b"a", b"b"))
        auth(self.nobody[2], "Enable")

    def everywhere(self, name: str, password: str, at: int = 0) -> list[UserClient]:
        """One login at a member, and a client with its token at each."""
        token = login(self.nobody[at], name, password)
        return self.with_token(token)

    def with_token(self, token: str) -> list[UserClient]:
        targets = self.cluster.targets()
        return [self._kept(UserClient(target, ("token", token))) for target in targets]

    def close(self) -> None:
        for client in self.made:
            client.close()

    def _kept(self, client):
        self.made.append(client)
        return client


@pytest.fixture
def people(form: FormCluster) -> Iterator[People]:
    people = People(form)
    yield people
    people.close()


def serves(call: Callable[[], object]) -> object:
    """What a call gives once the member it asks is back."""
    deadline = time.monotonic() + SERVES_SECONDS_MAX
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            away = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if error.code() not in away or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_login_at_one_member_counts_at_all_at_once(people: People):
    for number in range(ROUNDS):
        clients = people.everywhere("ann", "ann", at=number % 3)
        for client in clients[number % 3 :] + clients[: number % 3]:
            client.put(b"a", b"%d" % number)
            assert client.range(b"a").kvs[0].value == b"%d" % number
            client.range(b"a", serializable=True)


def test_what_one_member_has_acknowledged_all_obey(people: People):
    roots, anns = people.everywhere("root", ROOT_PASSWORD), people.everywhere("ann", "ann")
    for number in range(ROUNDS):
        at = number % 3
        grant(roots[at], "ann", READWRITE, b"x")
        for client in anns:
            client.range(b"x")
        anns[at].put(b"x", b"1")
        auth(roots[at], "RoleRevokePermission", role="ann", key=b"x")
        for client in anns:
            with refused(PERMISSION_DENIED):
                client.range(b"x")
            with refused(PERMISSION_DENIED):
                client.put(b"x", b"2")


def test_a_new_password_ends_logins_at_all_members(people: People):
    anns = people.everywhere("ann", "ann")
    root = people.everywhere("root", ROOT_PASSWORD)[1]
    auth(root, "UserChangePassword", name="ann", password="new")
    for nobody, client in zip(people.nobody, anns, strict=True):
        with refused(INVALID_TOKEN):
            client.range(b"a")
        with refused(AUTH_FAILED):
            login(nobody, "ann", "ann")
        assert login(nobody, "ann", "new")


def test_a_member_that_was_away_knows_what_it_missed(people: People):
    root = people.everywhere("root", ROOT_PASSWORD)
    victim = people.cluster.members[2]
    victim.kill()
    serves(lambda: auth(root[0], "UserChangePassword", name="ann", password="new"))
    add_user(root[0], "bob", (READWRITE, b"b", b""))
    bob = people.everywhere("bob", "bob")
    people.cluster.restart(victim)
    serves(lambda: bob[2].put(b"b", b"1"))
    with refused(AUTH_FAILED):
        login(people.nobody[2], "ann", "ann")
    assert login(people.nobody[2], "ann", "new")
    revisions = {auth(nobody, "Status").authRevision for nobody in people.nobody}
    assert len(revisions) == 1
    assert all(auth(nobody, "Status").enabled for nobody in people.nobody)


def test_tokens_outlive_a_leader(people: People):
    anns = people.everywhere("ann", "ann")
    leader_id = people.everywhere("root", ROOT_PASSWORD)[0].status().leader
    ids = [auth(nobody, "Status").header.member_id for nobody in people.nobody]
    at = ids.index(leader_id)
    people.cluster.members[at].kill()
    others = [client for number, client in enumerate(anns) if number != at]
    for client in others:
        serves(lambda client=client: client.put(b"a", b"after"))
        assert client.range(b"a").kvs[0].value == b"after"
