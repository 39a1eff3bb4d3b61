"""Sizes and bad input: what is too large, what is no message at all, and that nothing breaks."""

import re
import threading

import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api import ops
from tests.api.errors import REQUEST_TOO_LARGE, TOO_MANY_OPS, refused
from tests.support.grpc_client import prefix_end

REQUEST_BYTES = 1_572_864  # etcd's default of --max-request-bytes
OVERHEAD_BYTES = 512 * 1024  # what a gRPC message may have above it
ENVELOPE_BYTES = 64  # more than key, tags and lengths around a value


def assert_over_the_grpc_limit(call, limit):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    found = re.search(
        r"eceived message larger than max \((\d+) vs\. (\d+)\)", caught.value.details()
    )
    assert found, caught.value.details()
    assert int(found[1]) > int(found[2]) == limit


# --- sizes with default flags


def test_the_largest_request_is_stored(etcd, prefix):
    value = b"v" * (REQUEST_BYTES - ENVELOPE_BYTES)
    etcd.put(prefix, value)
    assert etcd.range(prefix).kvs[0].value == value


def test_a_larger_put_is_refused(etcd, prefix):
    with refused(REQUEST_TOO_LARGE):
        etcd.put(prefix, b"v" * REQUEST_BYTES)
    assert etcd.range(prefix).count == 0


def test_a_larger_txn_is_refused_whatever_branch_is_large(etcd, prefix):
    half = b"v" * (REQUEST_BYTES // 2)
    puts = [ops.put(prefix + b"a", half), ops.put(prefix + b"b", half)]
    with refused(REQUEST_TOO_LARGE):
        etcd.txn(puts)
    with refused(REQUEST_TOO_LARGE):
        etcd.txn([ops.put(prefix)], failure=puts)
    assert etcd.list_prefix(prefix).count == 0


def test_a_large_delete_is_refused(etcd):
    with refused(REQUEST_TOO_LARGE):
        etcd.delete(b"k" * REQUEST_BYTES)


def test_reading_may_be_as_large_as_a_message(etcd):
    assert etcd.range(b"k" * (REQUEST_BYTES + OVERHEAD_BYTES // 2)).count == 0


def test_up_to_the_grpc_limit_it_is_etcd_that_refuses(etcd, prefix):
    with refused(REQUEST_TOO_LARGE):
        etcd.put(prefix, b"v" * (REQUEST_BYTES + OVERHEAD_BYTES - ENVELOPE_BYTES))


def test_above_the_grpc_limit_it_is_grpc(etcd, prefix):
    value = b"v" * (REQUEST_BYTES + OVERHEAD_BYTES)
    limit = REQUEST_BYTES + OVERHEAD_BYTES
    assert_over_the_grpc_limit(lambda: etcd.put(prefix, value), limit)
    assert_over_the_grpc_limit(lambda: etcd.range(value), limit)


def test_a_long_key_is_a_key(etcd, prefix):
    key = prefix + b"k" * 100_000
    etcd.put(key, b"v")
    assert etcd.range(key).kvs[0].value == b"v"
    assert etcd.delete(key).deleted == 1


def test_an_answer_may_be_larger_than_any_request(etcd, prefix):
    for n in range(8):
        etcd.put(prefix + b"%d" % n, b"v" * 1_000_000)
    assert etcd.list_prefix(prefix).ByteSize() > 8_000_000


# --- sizes by flag


@pytest.fixture(scope="module")
def small(launch):
    return launch("--max-request-bytes=10000", "--max-txn-ops=4")


def test_the_flag_sets_the_largest_request(small):
    small.put(b"k", b"v" * (10_000 - ENVELOPE_BYTES))
    with refused(REQUEST_TOO_LARGE):
        small.put(b"k", b"v" * 10_000)
    limit = 10_000 + OVERHEAD_BYTES
    assert_over_the_grpc_limit(lambda: small.put(b"k", b"v" * limit), limit)


def test_the_flag_sets_how_many_operations_a_txn_has(small):
    puts = [ops.put(b"%d" % n) for n in range(5)]
    assert small.txn(puts[:4]).succeeded
    with refused(TOO_MANY_OPS):
        small.txn(puts)
    assert small.txn([ops.txn(*puts[:3])]).succeeded
    with refused(TOO_MANY_OPS):
        small.txn([ops.txn(*puts[:4])])


def test_fragments_follow_the_flag(small):
    names = [b"frag/%d" % n for n in range(4)]
    start = small.revision() + 1
    for round_ in range(60):
        for name in names:
            small.put(name, b"%02d" % round_ * 2000)
    with small.watch_stream() as stream:
        stream.create(b"frag/", prefix_end(b"frag/"), start_revision=start, fragment=True)
        responses = stream.responses_until(240)
    assert len(responses) > 1
    assert all(response.ByteSize() < 10_000 + OVERHEAD_BYTES for response in responses)


# --- no message at all


@pytest.mark.parametrize(
    "method",
    ["KV/Range", "KV/Put", "KV/Txn", "Lease/LeaseGrant", "Maintenance/HashKV"],
)
def test_bytes_that_are_no_message_are_refused(etcd, method):
    with pytest.raises(grpc.RpcError) as caught:
        etcd.call_raw(f"etcdserverpb.{method}", b"\x0a\xff\xff\xff\xff\x0f")
    assert caught.value.code() == grpc.StatusCode.INTERNAL


def test_a_watch_stream_of_no_messages_ends_alone(etcd, stream, prefix):
    method = etcd.channel.stream_stream("/etcdserverpb.Watch/Watch")
    with pytest.raises(grpc.RpcError) as caught:
        next(method(iter([b"\xff\xff\xff"]), timeout=10))
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    stream.create(prefix)
    etcd.put(prefix)
    assert stream.events(1)


def test_unknown_fields_are_ignored(etcd, prefix):
    request = pb.PutRequest(key=prefix, value=b"v").SerializeToString() + b"\xf8\x07\x01"
    answer = etcd.call_raw("etcdserverpb.KV/Put", request)
    assert pb.PutResponse.FromString(answer).header.revision == etcd.revision()


# --- leaving early


def test_a_client_that_leaves_early_harms_no_other(etcd, prefix):
    stop = threading.Event()

    def restless():
        while not stop.is_set():
            call = etcd.put_later(prefix + b"restless", b"v" * 1000)
            call.cancel()
            with etcd.watch_stream() as stream:
                stream.send_create(prefix)

    thread = threading.Thread(target=restless)
    thread.start()
    try:
        revisions = [etcd.put(prefix).header.revision for _ in range(100)]
    finally:
        stop.set()
        thread.join()
    assert revisions == sorted(set(revisions))
    assert etcd.range(prefix).kvs[0].version == 100


def test_a_keep_alive_stream_ends_when_its_client_has_no_more_to_ask(etcd):
    method = etcd.channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive")
    assert list(method(iter([]), timeout=10)) == []


def test_a_watch_goes_on_when_its_client_has_no_more_to_ask(etcd, prefix):
    create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=prefix))
    method = etcd.channel.stream_stream("/etcdserverpb.Watch/Watch")
    call = method(iter([create.SerializeToString()]), timeout=10)
    responses = map(pb.WatchResponse.FromString, call)
    assert next(responses).created
    for _ in range(2):
        revision = etcd.put(prefix).header.revision
        assert next(responses).events[0].kv.mod_revision == revision
    call.cancel()
