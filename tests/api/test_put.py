"""KV.Put: one key, one new revision, and the options that look at what was there."""

from tests.api.errors import (
    EMPTY_KEY,
    KEY_NOT_FOUND,
    LEASE_NOT_FOUND,
    LEASE_PROVIDED,
    VALUE_PROVIDED,
    refused,
)


def test_every_put_is_the_next_revision(etcd, prefix):
    before = etcd.revision()
    assert etcd.put(prefix, b"same").header.revision == before + 1
    assert etcd.put(prefix, b"same").header.revision == before + 2


def test_the_header_names_cluster_member_and_term(etcd, prefix):
    header = etcd.put(prefix).header
    assert header.cluster_id != 0
    assert header.member_id != 0
    assert header.raft_term >= 1


def test_an_empty_value_is_a_value(etcd, prefix):
    etcd.put(prefix, b"")
    response = etcd.range(prefix)
    assert (response.count, response.kvs[0].value, response.kvs[0].version) == (1, b"", 1)


def test_prev_kv_is_the_version_replaced(etcd, prefix):
    first = etcd.put(prefix, b"one", prev_kv=True)
    assert not first.HasField("prev_kv")
    second = etcd.put(prefix, b"two", prev_kv=True)
    assert (second.prev_kv.key, second.prev_kv.value) == (prefix, b"one")
    assert second.prev_kv.mod_revision == first.header.revision


def test_prev_kv_comes_only_when_asked_for(etcd, prefix):
    etcd.put(prefix, b"one")
    assert not etcd.put(prefix, b"two").HasField("prev_kv")


def test_ignore_value_keeps_the_value_and_sets_the_lease(etcd, prefix):
    lease = etcd.grant(1000).ID
    etcd.put(prefix, b"kept")
    etcd.put(prefix, lease=lease, ignore_value=True)
    (kv,) = etcd.range(prefix).kvs
    assert (kv.value, kv.lease, kv.version) == (b"kept", lease, 2)


def test_ignore_lease_keeps_the_lease_and_sets_the_value(etcd, prefix):
    lease = etcd.grant(1000).ID
    etcd.put(prefix, b"old", lease=lease)
    etcd.put(prefix, b"new", ignore_lease=True)
    (kv,) = etcd.range(prefix).kvs
    assert (kv.value, kv.lease) == (b"new", lease)
    assert list(etcd.time_to_live(lease, keys=True).keys) == [prefix]


def test_ignoring_both_is_a_new_version_of_the_same(etcd, prefix):
    lease = etcd.grant(1000).ID
    etcd.put(prefix, b"same", lease=lease)
    etcd.put(prefix, ignore_value=True, ignore_lease=True)
    (kv,) = etcd.range(prefix).kvs
    assert (kv.value, kv.lease, kv.version) == (b"same", lease, 2)


def test_there_must_be_something_to_keep(etcd, prefix):
    before = etcd.revision()
    with refused(KEY_NOT_FOUND):
        etcd.put(prefix, ignore_value=True)
    with refused(KEY_NOT_FOUND):
        etcd.put(prefix, b"v", ignore_lease=True)
    assert etcd.revision() == before


def test_what_is_ignored_must_not_be_given(etcd, prefix):
    etcd.put(prefix, b"v")
    with refused(VALUE_PROVIDED):
        etcd.put(prefix, b"other", ignore_value=True)
    with refused(LEASE_PROVIDED):
        etcd.put(prefix, b"v", lease=1, ignore_lease=True)


def test_an_empty_key_is_refused(etcd):
    with refused(EMPTY_KEY):
        etcd.put(b"", b"v")


def test_an_unknown_lease_is_refused_and_nothing_is_written(etcd, prefix):
    with refused(LEASE_NOT_FOUND):
        etcd.put(prefix, b"v", lease=4711)
    assert etcd.range(prefix).count == 0


def test_the_missing_lease_is_told_before_the_missing_key(etcd, prefix):
    with refused(LEASE_NOT_FOUND):
        etcd.put(prefix, lease=4711, ignore_value=True)


def test_concurrent_puts_get_one_revision_each(etcd, prefix):
    before = etcd.revision()
    calls = [etcd.put_later(prefix + b"%03d" % n, b"v") for n in range(100)]
    revisions = sorted(call.result().header.revision for call in calls)
    assert revisions == list(range(before + 1, before + 101))
    assert etcd.list_prefix(prefix).count == 100
