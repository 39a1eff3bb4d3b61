"""KV.Txn: what is refused before anything is executed, and what is not."""

import pytest

from tests.api import ops
from tests.api.errors import (
    COMPACTED,
    DUPLICATE_KEY,
    EMPTY_KEY,
    FUTURE_REVISION,
    INVALID_SORT,
    KEY_NOT_FOUND,
    LEASE_NOT_FOUND,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    VALUE_PROVIDED,
    refused,
)
from tests.api.ops import when

# --- checks before execution


def assert_nothing_happens(etcd, prefix, error, *success, **rest):
    """The Txn is refused, and its first put has not happened."""
    before = etcd.revision()
    with refused(error):
        etcd.txn([ops.put(prefix + b"first"), *success], **rest)
    assert etcd.revision() == before
    assert etcd.range(prefix + b"first").count == 0


@pytest.mark.parametrize(
    "bad",
    [ops.put(b""), ops.get(b""), ops.delete(b""), ops.txn(ops.put(b""))],
    ids=["put", "range", "delete", "nested"],
)
def test_an_empty_key_is_refused_in_either_branch(etcd, prefix, bad):
    assert_nothing_happens(etcd, prefix, EMPTY_KEY, bad)
    assert_nothing_happens(etcd, prefix, EMPTY_KEY, failure=[bad])


def test_an_empty_key_in_a_compare_is_refused(etcd, prefix):
    compare = [when(b"", "version", "=", 0)]
    assert_nothing_happens(etcd, prefix, EMPTY_KEY, compare=compare)


def test_bad_options_are_refused_in_either_branch(etcd, prefix):
    cases = [
        (INVALID_SORT, ops.get(b"k", sort_order=9)),
        (VALUE_PROVIDED, ops.put(b"k", b"v", ignore_value=True)),
        (LEASE_PROVIDED, ops.put(b"k", lease=1, ignore_lease=True)),
    ]
    for error, bad in cases:
        assert_nothing_happens(etcd, prefix, error, bad)
        assert_nothing_happens(etcd, prefix, error, failure=[bad])


@pytest.mark.parametrize(
    "bad",
    [
        lambda key: ops.put(key, lease=4711),
        lambda key: ops.txn(ops.put(key, lease=4711)),
    ],
    ids=["outer", "nested"],
)
def test_an_unknown_lease_refuses_only_the_branch_taken(etcd, prefix, bad):
    assert_nothing_happens(etcd, prefix, LEASE_NOT_FOUND, bad(prefix + b"k"))
    assert etcd.txn([], failure=[bad(prefix + b"k")]).succeeded


def test_a_missing_key_to_keep_refuses_only_the_branch_taken(etcd, prefix):
    bad = ops.put(prefix + b"k", ignore_value=True)
    assert_nothing_happens(etcd, prefix, KEY_NOT_FOUND, bad)
    assert etcd.txn([], failure=[bad]).succeeded


def test_future_and_compacted_revisions_refuse_the_whole_txn(etcd, prefix):
    old = etcd.put(prefix).header.revision
    etcd.put(prefix)
    etcd.compact(old + 1)
    assert_nothing_happens(etcd, prefix, COMPACTED, ops.get(prefix, revision=old))
    assert_nothing_happens(etcd, prefix, FUTURE_REVISION, ops.get(prefix, revision=old + 100))
    with refused(COMPACTED):
        etcd.txn([ops.get(prefix, revision=old)])
    with refused(FUTURE_REVISION):
        etcd.txn([ops.get(prefix, revision=old + 100)])


# --- duplicate keys

A, B, C = b"dup/a", b"dup/b", b"dup/c"


@pytest.mark.parametrize(
    "requests",
    [
        [ops.put(A), ops.put(A)],
        [ops.put(A), ops.delete(A)],
        [ops.delete(A), ops.put(A)],
        [ops.delete(A, C), ops.put(B)],
        [ops.put(A), ops.txn(ops.put(A))],
        [ops.txn(ops.put(A)), ops.put(A)],
        [ops.txn(ops.put(A)), ops.txn(ops.put(A))],
        [ops.delete(A), ops.txn(ops.put(A))],
        [ops.put(A), ops.txn(ops.delete(A))],
        [ops.put(A), ops.txn(failure=[ops.put(A)])],
        [ops.txn(ops.put(A), failure=[ops.put(A)]), ops.put(A)],
        [ops.txn(ops.txn(ops.put(A)), ops.delete(A))],
    ],
)
def test_a_key_is_written_once(etcd, requests):
    with refused(DUPLICATE_KEY):
        etcd.txn(requests)
    with refused(DUPLICATE_KEY):
        etcd.txn([], failure=requests)


@pytest.mark.parametrize(
    "requests",
    [
        [ops.delete(A), ops.delete(A)],
        [ops.delete(A, B), ops.put(B)],
        [ops.put(A), ops.get(A)],
        [ops.txn(ops.put(A), failure=[ops.put(A)])],
        [ops.txn(ops.put(A), failure=[ops.delete(A)])],
        [ops.delete(A, C), ops.delete(B)],
    ],
)
def test_these_do_not_collide(etcd, requests):
    assert etcd.txn(requests).succeeded


def test_the_branches_of_a_txn_may_write_the_same_key(etcd):
    assert etcd.txn([ops.put(A)], failure=[ops.put(A), ops.delete(B)]).succeeded


# --- how many operations


def test_a_branch_holds_at_most_128_operations(etcd, prefix):
    puts = [ops.put(prefix + b"%d" % n) for n in range(129)]
    assert etcd.txn(puts[:128]).header.revision > 0
    with refused(TOO_MANY_OPS):
        etcd.txn(puts)
    with refused(TOO_MANY_OPS):
        etcd.txn([], failure=puts)
    with refused(TOO_MANY_OPS):
        etcd.txn(compare=[when(prefix, "version", "=", 0)] * 129)


def test_a_nested_txn_has_what_the_outer_one_left(etcd, prefix):
    puts = [ops.put(prefix + b"%d" % n) for n in range(128)]
    assert etcd.txn([ops.txn(*puts[:127])]).succeeded
    with refused(TOO_MANY_OPS):
        etcd.txn([ops.txn(*puts)])
    with refused(TOO_MANY_OPS):
        etcd.txn([ops.get(prefix), ops.txn(*puts[:127])])
