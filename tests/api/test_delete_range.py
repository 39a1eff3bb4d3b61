"""KV.DeleteRange: the forms of range again, what was deleted, and when a revision is made."""

import pytest

from tests.api.errors import EMPTY_KEY, refused
from tests.api.ops import values
from tests.support.grpc_client import ALL, prefix_end


@pytest.fixture
def letters(etcd, prefix):
    for letter in (b"a", b"b", b"c", b"d"):
        etcd.put(prefix + letter, letter)
    return prefix


def test_one_key_is_deleted_in_one_revision(etcd, letters):
    before = etcd.revision()
    response = etcd.delete(letters + b"b")
    assert (response.deleted, response.header.revision) == (1, before + 1)
    assert values(etcd.list_prefix(letters)) == [b"a", b"c", b"d"]


def test_a_range_is_deleted_in_one_revision(etcd, letters):
    before = etcd.revision()
    response = etcd.delete(letters + b"b", letters + b"d")
    assert (response.deleted, response.header.revision) == (2, before + 1)
    assert values(etcd.list_prefix(letters)) == [b"a", b"d"]


def test_deleting_nothing_makes_no_revision(etcd, letters):
    before = etcd.revision()
    response = etcd.delete(letters + b"x", prefix_end(letters), prev_kv=True)
    assert (response.deleted, list(response.prev_kvs)) == (0, [])
    assert response.header.revision == before == etcd.revision()


def test_an_empty_or_reversed_range_deletes_nothing(etcd, letters):
    assert etcd.delete(letters + b"b", letters + b"b").deleted == 0
    assert etcd.delete(letters + b"c", letters + b"a").deleted == 0
    assert etcd.list_prefix(letters).count == 4


def test_prev_kvs_are_what_was_deleted_in_key_order(etcd, letters):
    response = etcd.delete(letters + b"c", prefix_end(letters), prev_kv=True)
    assert [kv.value for kv in response.prev_kvs] == [b"c", b"d"]
    assert all(kv.version == 1 and kv.mod_revision > 0 for kv in response.prev_kvs)


def test_prev_kvs_come_only_when_asked_for(etcd, letters):
    assert list(etcd.delete(letters, prefix_end(letters)).prev_kvs) == []


def test_from_key_deletes_to_the_end_and_every_key_is_everything(fresh):
    for key in (b"\x00", b"a", b"m", b"\xff"):
        fresh.put(key)
    assert fresh.delete(b"m", ALL).deleted == 2
    assert fresh.delete(ALL, ALL).deleted == 2
    assert fresh.range(ALL, ALL).count == 0


def test_a_deleted_key_can_be_deleted_only_once(etcd, letters):
    assert etcd.delete(letters + b"a").deleted == 1
    assert etcd.delete(letters + b"a").deleted == 0


def test_an_empty_key_is_refused(etcd):
    with refused(EMPTY_KEY):
        etcd.delete(b"", b"z")
