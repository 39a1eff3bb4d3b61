"""KV.Txn: compares, branches, the answers in them, and nesting."""

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api import ops
from tests.api.ops import keys, values, when
from tests.support.grpc_client import prefix_end

# --- compares


@pytest.fixture
def subject(etcd, prefix):
    """A key at version 2 with value "m" and a lease; returns what it says of itself."""
    lease = etcd.grant(1000).ID
    etcd.put(prefix, b"first")
    etcd.put(prefix, b"m", lease=lease)
    return etcd.range(prefix).kvs[0]


@pytest.mark.parametrize("target", ["version", "create_revision", "mod_revision", "lease"])
@pytest.mark.parametrize(
    ("result", "holds"),
    [
        ("=", (False, True, False)),
        ("!=", (True, False, True)),
        (">", (True, False, False)),
        ("<", (False, False, True)),
    ],
)
def test_a_number_compares_with_one_below_itself_and_one_above(
    etcd, subject, target, result, holds
):
    actual = getattr(subject, target)
    found = tuple(
        etcd.txn(compare=[when(subject.key, target, result, actual + offset)]).succeeded
        for offset in (-1, 0, 1)
    )
    assert found == holds


@pytest.mark.parametrize(
    ("result", "holds"),
    [
        ("=", (False, True, False)),
        ("!=", (True, False, True)),
        (">", (True, False, False)),
        ("<", (False, False, True)),
    ],
)
def test_values_compare_as_bytes(etcd, subject, result, holds):
    found = tuple(
        etcd.txn(compare=[when(subject.key, "value", result, operand)]).succeeded
        for operand in (b"l\xff", b"m", b"m\x00")
    )
    assert found == holds


def test_all_compares_must_hold(etcd, subject):
    holds = when(subject.key, "version", "=", 2)
    fails = when(subject.key, "value", "=", b"other")
    assert etcd.txn(compare=[holds, holds]).succeeded
    assert not etcd.txn(compare=[holds, fails]).succeeded


def test_no_compare_holds(etcd):
    assert etcd.txn().succeeded


def test_a_compare_over_a_range_must_hold_for_every_key(etcd, prefix):
    for name in (b"a", b"b"):
        etcd.put(prefix + name, b"same")
    end = prefix_end(prefix)
    assert etcd.txn(compare=[when(prefix, "value", "=", b"same", range_end=end)]).succeeded
    etcd.put(prefix + b"b", b"other")
    assert not etcd.txn(compare=[when(prefix, "value", "=", b"same", range_end=end)]).succeeded
    assert etcd.txn(compare=[when(prefix, "version", ">", 0, range_end=end)]).succeeded
    assert not etcd.txn(compare=[when(prefix, "version", "=", 1, range_end=end)]).succeeded


def test_a_compare_from_a_key_on_covers_all_keys_behind_it(fresh):
    fresh.put(b"b", b"x")
    fresh.put(b"z", b"y")
    assert fresh.txn(compare=[when(b"b", "version", "=", 1, range_end=b"\x00")]).succeeded
    assert not fresh.txn(compare=[when(b"b", "value", "=", b"x", range_end=b"\x00")]).succeeded
    assert fresh.txn(compare=[when(b"z", "value", "=", b"y", range_end=b"\x00")]).succeeded


# --- branches and responses


def test_only_the_branch_taken_is_executed(etcd, prefix):
    success, failure = [ops.put(prefix + b"then")], [ops.put(prefix + b"else")]
    taken = etcd.txn(success, failure=failure)
    assert taken.succeeded
    other = etcd.txn(success, compare=[when(prefix, "version", ">", 0)], failure=failure)
    assert not other.succeeded
    assert keys(etcd.list_prefix(prefix)) == [prefix + b"else", prefix + b"then"]


def test_all_writes_of_a_txn_are_one_revision(etcd, prefix):
    etcd.put(prefix + b"gone")
    before = etcd.revision()
    response = etcd.txn(
        [ops.put(prefix + b"a"), ops.delete(prefix + b"gone"), ops.put(prefix + b"b")]
    )
    assert response.header.revision == before + 1 == etcd.revision()
    assert {kv.mod_revision for kv in etcd.list_prefix(prefix).kvs} == {before + 1}


def test_responses_come_in_the_order_of_the_requests(etcd, prefix):
    etcd.put(prefix + b"old", b"v")
    response = etcd.txn(
        [
            ops.get(prefix + b"old"),
            ops.put(prefix + b"new", b"w", prev_kv=True),
            ops.delete(prefix + b"old", prev_kv=True),
            ops.get(prefix, prefix_end(prefix)),
        ]
    )
    got, put, deleted, listed = response.responses
    assert values(got.response_range) == [b"v"]
    assert not put.response_put.HasField("prev_kv")
    assert deleted.response_delete_range.deleted == 1
    assert [kv.value for kv in deleted.response_delete_range.prev_kvs] == [b"v"]
    assert keys(listed.response_range) == [prefix + b"new"]


def test_a_range_inside_sees_the_writes_before_it(etcd, prefix):
    before = etcd.revision()
    response = etcd.txn([ops.get(prefix), ops.put(prefix, b"v"), ops.get(prefix)])
    first, _, second = (item.response_range for item in response.responses)
    assert (first.count, second.count) == (0, 1)
    assert (first.header.revision, second.header.revision) == (before, before + 1)
    assert second.kvs[0].mod_revision == before + 1


def test_a_range_inside_takes_every_option(etcd, prefix):
    for name in (b"a", b"b", b"c"):
        etcd.put(prefix + name, name)
    end = prefix_end(prefix)
    response = etcd.txn(
        [
            ops.get(prefix, end, limit=1, sort_order=pb.RangeRequest.DESCEND),
            ops.get(prefix, end, count_only=True),
            ops.get(prefix, end, keys_only=True, limit=2),
        ]
    )
    last, count, listed = (item.response_range for item in response.responses)
    assert (values(last), last.more, last.count) == ([b"c"], True, 3)
    assert (list(count.kvs), count.count) == ([], 3)
    assert (values(listed), listed.more) == ([b"", b""], True)


def test_a_txn_that_only_reads_makes_no_revision(etcd, prefix):
    etcd.put(prefix)
    before = etcd.revision()
    assert etcd.txn([ops.get(prefix)], failure=[ops.get(prefix)]).header.revision == before
    assert etcd.txn([ops.get(prefix, serializable=True)]).header.revision == before
    assert etcd.revision() == before


def test_a_txn_that_deletes_nothing_makes_no_revision(etcd, prefix):
    before = etcd.revision()
    response = etcd.txn([ops.delete(prefix), ops.txn(ops.delete(prefix + b"x"))])
    assert response.header.revision == before == etcd.revision()


def test_a_past_revision_can_be_read_inside(etcd, prefix):
    first = etcd.put(prefix, b"old").header.revision
    etcd.put(prefix, b"new")
    response = etcd.txn([ops.put(prefix, b"newest"), ops.get(prefix, revision=first)])
    assert values(response.responses[1].response_range) == [b"old"]


def test_the_same_key_may_be_read_and_written(etcd, prefix):
    etcd.put(prefix, b"1")
    swap = [ops.put(prefix, b"2", prev_kv=True)]
    response = etcd.txn(swap, compare=[when(prefix, "value", "=", b"1")])
    assert response.responses[0].response_put.prev_kv.value == b"1"


def test_put_options_work_inside(etcd, prefix):
    lease = etcd.grant(1000).ID
    etcd.put(prefix, b"kept")
    etcd.txn([ops.put(prefix, lease=lease, ignore_value=True)])
    etcd.txn([ops.txn(ops.put(prefix, b"changed", ignore_lease=True))])
    (kv,) = etcd.range(prefix).kvs
    assert (kv.value, kv.lease, kv.version) == (b"changed", lease, 3)


# --- nesting


def test_a_nested_txn_takes_its_own_branch(etcd, prefix):
    etcd.put(prefix + b"exists", b"v")
    inner = ops.txn(
        ops.put(prefix + b"then"),
        compare=[when(prefix + b"exists", "version", "=", 7)],
        failure=[ops.put(prefix + b"else"), ops.get(prefix + b"exists")],
    )
    response = etcd.txn([ops.put(prefix + b"outer"), inner])
    nested = response.responses[1].response_txn
    assert not nested.succeeded
    assert values(nested.responses[1].response_range) == [b"v"]
    assert etcd.range(prefix + b"else").count == 1
    assert etcd.range(prefix + b"then").count == 0


def test_nested_txns_share_one_revision(etcd, prefix):
    before = etcd.revision()
    inner = ops.txn(ops.put(prefix + b"b"), ops.txn(ops.put(prefix + b"c")))
    etcd.txn([ops.put(prefix + b"a"), inner])
    assert {kv.mod_revision for kv in etcd.list_prefix(prefix).kvs} == {before + 1}


# --- concurrency


def test_compare_and_swap_loses_no_update(etcd, prefix):
    etcd.put(prefix, b"0")
    applied = 0
    while applied < 100:
        (kv,) = etcd.range(prefix).kvs
        request = pb.TxnRequest(
            compare=[when(prefix, "mod_revision", "=", kv.mod_revision)],
            success=[ops.put(prefix, b"%d" % (int(kv.value) + 1))],
        )
        method = "etcdserverpb.KV/Txn"
        calls = [etcd.call_later(method, request, pb.TxnResponse) for _ in range(10)]
        assert sum(call.result().succeeded for call in calls) == 1
        applied += 10
    assert etcd.range(prefix).kvs[0].value == b"10"
