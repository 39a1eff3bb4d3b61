"""The corners of Txn that are commonly got wrong, one test for each."""

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api import ops
from tests.api.errors import (
    DUPLICATE_KEY,
    FUTURE_REVISION,
    KEY_NOT_FOUND,
    LEASE_NOT_FOUND,
    refused,
)
from tests.api.ops import keys, when
from tests.support.grpc_client import ALL, prefix_end

Range = pb.RangeRequest

# --- revisions


def test_an_empty_store_is_at_revision_one(fresh):
    assert fresh.range(b"k").header.revision == 1
    assert fresh.status().header.revision == 1
    assert fresh.put(b"k").header.revision == 2


def test_what_changes_nothing_makes_no_revision(fresh):
    assert fresh.delete(b"k").header.revision == 1
    assert fresh.txn().header.revision == 1
    assert fresh.txn([ops.get(b"k")]).header.revision == 1
    assert fresh.txn([ops.delete(b"k")]).header.revision == 1
    assert fresh.put(b"k").header.revision == 2


# --- the state before the Txn


def test_compares_of_a_nested_txn_see_the_state_before_the_outer_one(etcd, prefix):
    inner = ops.txn(
        ops.put(prefix + b"absent"),
        compare=[when(prefix, "version", "=", 0)],
        failure=[ops.put(prefix + b"present")],
    )
    response = etcd.txn([ops.put(prefix), inner])
    assert response.responses[1].response_txn.succeeded
    assert keys(etcd.list_prefix(prefix)) == [prefix, prefix + b"absent"]


def test_checks_see_the_state_before_the_txn(etcd, prefix):
    etcd.put(prefix, b"v")
    # The key is deleted first, but the check found it before: its value and lease are kept.
    with refused(DUPLICATE_KEY):
        etcd.txn([ops.delete(prefix), ops.put(prefix, ignore_value=True)])
    # A key that only this Txn makes is not there for the check.
    made = ops.txn(ops.put(prefix + b"new", b"v"))
    kept = ops.put(prefix + b"other", ignore_value=True)
    with refused(KEY_NOT_FOUND):
        etcd.txn([made, kept])


@pytest.mark.kvshim_only
def test_a_key_that_the_txn_deleted_is_not_kept(etcd, prefix):
    """An open range hides from the check for keys named twice. etcd 3.7 ends for good by this."""
    etcd.put(prefix, b"v")
    before = etcd.revision()
    delete = ops.delete(prefix, b"\x00")
    for kept in (ops.put(prefix, ignore_value=True), ops.put(prefix, b"w", ignore_lease=True)):
        for operations in ([delete, kept], [ops.txn(delete), kept], [delete, ops.txn(kept)]):
            with refused(KEY_NOT_FOUND):
                etcd.txn(operations)
    assert etcd.revision() == before
    assert ops.values(etcd.range(prefix)) == [b"v"]
    other = ops.put(prefix + b"other", b"w")
    etcd.txn([delete, other])
    assert keys(etcd.list_prefix(prefix)) == [prefix + b"other"]


def test_only_the_branch_taken_is_checked(etcd, prefix):
    bad = [
        ops.put(prefix, lease=4711),
        ops.put(prefix + b"b", ignore_value=True),
        ops.get(prefix, revision=etcd.revision() + 100),
    ]
    assert etcd.txn([], failure=bad).succeeded
    nested = ops.txn(*bad, compare=[when(prefix, "version", "=", 9)])
    assert etcd.txn([nested]).succeeded
    with refused(LEASE_NOT_FOUND):
        etcd.txn(bad)


def test_a_range_at_the_revision_the_txn_makes_is_in_the_future(etcd, prefix):
    upcoming = etcd.revision() + 1
    with refused(FUTURE_REVISION):
        etcd.txn([ops.put(prefix), ops.get(prefix, revision=upcoming)])
    assert etcd.revision() == upcoming - 1


# --- compares


@pytest.mark.parametrize("result", ["=", "!=", ">", "<"])
def test_a_value_compare_of_a_missing_key_is_false(etcd, prefix, result):
    for operand in (b"", b"v"):
        assert not etcd.txn(compare=[when(prefix, "value", result, operand)]).succeeded


@pytest.mark.parametrize("target", ["version", "create_revision", "mod_revision", "lease"])
def test_other_targets_of_a_missing_key_are_zero(etcd, prefix, target):
    assert etcd.txn(compare=[when(prefix, target, "=", 0)]).succeeded
    assert etcd.txn(compare=[when(prefix, target, "<", 1)]).succeeded
    assert etcd.txn(compare=[when(prefix, target, ">", -1)]).succeeded
    assert etcd.txn(compare=[when(prefix, target, "!=", 1)]).succeeded


def test_a_range_compare_must_hold_for_all_keys(etcd, prefix):
    end = prefix_end(prefix)
    etcd.put(prefix + b"a", b"v")
    etcd.put(prefix + b"b", b"w")
    assert etcd.txn(compare=[when(prefix, "version", "=", 1, range_end=end)]).succeeded
    assert not etcd.txn(compare=[when(prefix, "value", "=", b"v", range_end=end)]).succeeded


def test_a_range_compare_without_keys_is_that_of_a_missing_key(etcd, prefix):
    end = prefix_end(prefix)
    assert etcd.txn(compare=[when(prefix, "mod_revision", "=", 0, range_end=end)]).succeeded
    assert not etcd.txn(compare=[when(prefix, "mod_revision", ">", 0, range_end=end)]).succeeded
    assert not etcd.txn(compare=[when(prefix, "value", "!=", b"v", range_end=end)]).succeeded


def test_a_compare_without_an_operand_compares_with_zero_or_empty(etcd, prefix):
    etcd.put(prefix)
    empty = pb.Compare(key=prefix, target=pb.Compare.VALUE)
    assert etcd.txn(compare=[empty]).succeeded
    other_operand = pb.Compare(key=prefix, target=pb.Compare.VERSION, mod_revision=1)
    assert not etcd.txn(compare=[other_operand]).succeeded
    missing = pb.Compare(key=prefix + b"missing", target=pb.Compare.VERSION)
    assert etcd.txn(compare=[missing]).succeeded


def test_an_unknown_target_is_equal_and_an_unknown_result_holds(etcd, prefix):
    etcd.put(prefix)
    assert etcd.txn(compare=[pb.Compare(key=prefix, target=99)]).succeeded
    assert not etcd.txn(compare=[pb.Compare(key=prefix, target=99, result=1)]).succeeded
    assert etcd.txn(compare=[pb.Compare(key=prefix, target=1, result=99)]).succeeded


# --- requests and responses


def test_a_request_op_without_a_request_is_key_not_found(etcd, prefix):
    with refused(KEY_NOT_FOUND):
        etcd.txn([ops.put(prefix), pb.RequestOp()])
    with refused(KEY_NOT_FOUND):
        etcd.txn([], failure=[pb.RequestOp()])
    with refused(KEY_NOT_FOUND):
        etcd.txn([ops.txn(pb.RequestOp())])


def test_inner_responses_have_a_header_with_only_the_revision(etcd, prefix):
    etcd.put(prefix + b"old")
    revision = etcd.revision() + 1
    response = etcd.txn([ops.put(prefix), ops.get(prefix), ops.delete(prefix + b"old")])
    only = pb.ResponseHeader(revision=revision)
    put, got, deleted = response.responses
    assert put.response_put.header == only
    assert got.response_range.header == only
    assert deleted.response_delete_range.header == only
    assert response.header.revision == revision
    assert response.header.member_id != 0


def test_an_inner_delete_of_nothing_tells_the_revision_so_far(etcd, prefix):
    before = etcd.revision()
    response = etcd.txn([ops.delete(prefix + b"x"), ops.put(prefix), ops.delete(prefix + b"x")])
    first, _, last = response.responses
    assert first.response_delete_range.header.revision == before
    assert last.response_delete_range.header.revision == before + 1


def test_the_header_of_a_nested_txn_is_empty_but_there(etcd, prefix):
    response = etcd.txn([ops.txn(ops.put(prefix))])
    nested = response.responses[0].response_txn
    assert nested.HasField("header")
    assert nested.header == pb.ResponseHeader()
    assert nested.succeeded


# --- one key twice in one revision


@pytest.fixture
def twice(etcd, prefix):
    """A key put as "old", then put and deleted by one Txn, as a watch and the answer tell it."""
    old = etcd.put(prefix, b"old")
    with etcd.watch_stream() as stream:
        stream.create(prefix, prev_kv=True)
        inner = [ops.txn(ops.put(prefix, b"new")), ops.txn(ops.delete(prefix, prev_kv=True))]
        response = etcd.txn(inner)
        told = stream.next()
    return old.header.revision, response, told


def test_nested_put_then_delete_is_accepted_and_delete_then_put_is_not(etcd, prefix):
    put, delete = ops.txn(ops.put(prefix)), ops.txn(ops.delete(prefix))
    assert etcd.txn([put, delete]).succeeded
    assert etcd.range(prefix).count == 0
    with refused(DUPLICATE_KEY):
        etcd.txn([delete, put])


def test_the_watch_tells_put_and_delete_at_one_revision(twice, prefix):
    _, response, told = twice
    assert [(e.type, e.kv.value) for e in told.events] == [(0, b"new"), (1, b"")]
    assert {e.kv.mod_revision for e in told.events} == {response.header.revision}


def test_prev_kv_of_the_events_is_the_version_before_the_txn(twice):
    old_revision, _, told = twice
    assert [e.prev_kv.value for e in told.events] == [b"old", b"old"]
    assert {e.prev_kv.mod_revision for e in told.events} == {old_revision}


def test_prev_kvs_of_the_delete_response_is_the_put_inside(twice):
    _, response, _ = twice
    deleted = response.responses[1].response_txn.responses[0].response_delete_range
    (kv,) = deleted.prev_kvs
    assert (kv.value, kv.version, kv.mod_revision) == (b"new", 2, response.header.revision)


def test_a_key_made_and_deleted_in_one_txn_was_never_there_before(etcd, stream, prefix):
    stream.create(prefix, prev_kv=True)
    revision = etcd.txn([ops.txn(ops.put(prefix)), ops.txn(ops.delete(prefix))]).header.revision
    put, deleted = stream.next().events
    assert not put.HasField("prev_kv")
    assert not deleted.HasField("prev_kv")
    assert etcd.range(prefix, revision=revision).count == 0


def test_a_delete_from_a_key_on_is_not_seen_by_the_duplicate_check(etcd):
    key = b"\xfe/last"
    response = etcd.txn([ops.put(key, b"v"), ops.delete(b"\xfe", ALL, prev_kv=True)])
    (deleted,) = response.responses[1].response_delete_range.prev_kvs
    assert deleted.value == b"v"
    assert etcd.range(key).count == 0
    etcd.txn([ops.delete(b"\xfe", ALL), ops.put(key)])
    assert etcd.delete(key).deleted == 1
