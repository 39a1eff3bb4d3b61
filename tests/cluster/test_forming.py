"""Three processes become one cluster, and any of them serves it."""

import pytest

from tests.cluster.clients import client
from tests.cluster.conftest import FormCluster
from tests.support.datastore import Kind


def test_three_form_by_flags_and_all_name_one_leader(form: FormCluster) -> None:
    cluster = form(3)
    lists = []
    for member in cluster.members:
        with client(member.target) as etcd:
            lists.append(sorted((m.name, m.ID, m.peerURLs[0]) for m in etcd.members().members))
    assert lists[0] == lists[1] == lists[2]
    assert [name for name, _, _ in lists[0]] == ["a", "b", "c"]
    statuses = [member.status() for member in cluster.members]
    assert len({status.header.cluster_id for status in statuses if status}) == 1
    assert len({status.header.member_id for status in statuses if status}) == 3


def test_any_member_takes_writes_and_shows_them_at_once_on_all(form: FormCluster) -> None:
    cluster = form(3)
    for number in range(30):
        writer = cluster.members[number % 3]
        key, value = b"key-%d" % (number % 7), b"value-%d" % number
        with client(writer.target) as etcd:
            revision = etcd.put(key, value).header.revision
        for reader in cluster.members:
            with client(reader.target) as etcd:
                answer = etcd.range(key)
                assert answer.kvs[0].value == value, f"written at {writer.name}, {reader.name}"
                assert answer.header.revision >= revision
    revision = cluster.wait_same_revision()
    assert revision == 31
    assert len(set(cluster.hashes(revision))) == 1


def test_all_killed_at_once_come_back_with_everything(form: FormCluster) -> None:
    cluster = form(3)
    with client(cluster.members[1].target) as etcd:
        for number in range(50):
            etcd.put(b"key-%d" % number, b"value")
    for member in cluster.members:
        member.kill()
    cluster.start_all()
    cluster.wait_leader(everyone=True)
    with client(cluster.members[2].target) as etcd:
        assert etcd.list_prefix(b"key-").count == 50
    revision = cluster.wait_same_revision()
    assert len(set(cluster.hashes(revision))) == 1


@pytest.mark.parametrize("count", [5])
def test_five_go_on_without_two(form: FormCluster, count: int) -> None:
    cluster = form(count)
    for member in cluster.followers()[:2]:
        member.kill()
    with client(cluster.wait_leader().target) as etcd:
        etcd.put(b"key", b"value")
        assert cluster.kind is Kind.ETCD or len(etcd.members().members) == count
