"""KV.RangeStream: the answer of Range in chunks, all of them at one revision."""

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api.errors import (
    COMPACTED,
    EMPTY_KEY,
    FUTURE_REVISION,
    INVALID_SORT,
    STREAM_NO_FILTER,
    STREAM_NO_SORT,
    refused,
)
from tests.api.ops import values
from tests.support.grpc_client import prefix_end

MAX_REQUEST_BYTES = 1_572_864
LARGE = 100_000


@pytest.fixture(scope="module")
def letters(etcd):
    for letter in (b"a", b"b", b"c", b"d", b"e"):
        etcd.put(b"stream/" + letter, letter)
    return b"stream/"


@pytest.fixture(scope="module")
def heavy(etcd):
    """Fifty keys of 100 kB: several times what one request may carry."""
    for n in range(50):
        etcd.put(b"heavy/%02d" % n, b"%02d" % n * (LARGE // 2))
    return b"heavy/"


def stream(etcd, prefix, **options):
    return etcd.range_stream(prefix, prefix_end(prefix), **options)


def merged(chunks):
    """What the client makes of the chunks."""
    whole = pb.RangeResponse()
    for chunk in chunks:
        whole.MergeFrom(chunk)
    return whole


def assert_only_the_last_chunk_says_more_than_keys(chunks):
    assert chunks[-1].HasField("header")
    for chunk in chunks[:-1]:
        assert not chunk.HasField("header")
        assert (chunk.count, chunk.more) == (0, False)
        assert chunk.kvs


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"limit": 2},
        {"limit": 5},
        {"limit": -1},
        {"keys_only": True},
        {"count_only": True},
        {"count_only": True, "limit": 2},
        {"serializable": True},
        {"sort_order": pb.RangeRequest.ASCEND},
        {"revision": -1},
    ],
    ids=str,
)
def test_the_chunks_merge_into_the_answer_of_range(etcd, letters, options):
    chunks = stream(etcd, letters, **options)
    assert merged(chunks) == etcd.list_prefix(letters, **options)
    assert_only_the_last_chunk_says_more_than_keys(chunks)


def test_a_large_answer_comes_in_chunks_bounded_by_bytes(etcd, heavy):
    chunks = stream(etcd, heavy)
    assert len(chunks) > 2
    assert_only_the_last_chunk_says_more_than_keys(chunks)
    assert max(chunk.ByteSize() for chunk in chunks) < 2 * MAX_REQUEST_BYTES + LARGE
    whole = merged(chunks)
    assert whole == etcd.list_prefix(heavy)
    assert (whole.count, whole.more) == (50, False)


def test_count_is_what_was_sent_and_what_remains(etcd, heavy):
    chunks = stream(etcd, heavy, limit=30)
    whole = merged(chunks)
    assert (len(whole.kvs), whole.count, whole.more) == (30, 50, True)
    assert_only_the_last_chunk_says_more_than_keys(chunks)


def test_a_past_revision_is_streamed_under_the_current_header(etcd, prefix):
    first = etcd.put(prefix, b"old").header.revision
    current = etcd.put(prefix, b"new").header.revision
    whole = merged(stream(etcd, prefix, revision=first))
    assert values(whole) == [b"old"]
    assert whole.header.revision == current


def test_a_target_without_an_order_sorts_what_fits_one_chunk(etcd, prefix):
    for name, value in ((b"a", b"3"), (b"b", b"1"), (b"c", b"2")):
        etcd.put(prefix + name, value)
    (chunk,) = stream(etcd, prefix, sort_target=pb.RangeRequest.VALUE)
    assert values(chunk) == [b"1", b"2", b"3"]


def test_the_header_is_complete(etcd, letters):
    header = stream(etcd, letters)[-1].header
    assert header == etcd.list_prefix(letters).header
    assert header.member_id != 0


def test_an_empty_answer_is_one_chunk(etcd, prefix):
    (chunk,) = stream(etcd, prefix)
    assert (list(chunk.kvs), chunk.count, chunk.more) == ([], 0, False)
    assert chunk.header.revision == etcd.revision()


def test_a_single_key_is_one_chunk(etcd, letters):
    (chunk,) = etcd.range_stream(letters + b"b")
    assert (values(chunk), chunk.count) == ([b"b"], 1)


@pytest.mark.parametrize(
    "options",
    [
        {"sort_order": pb.RangeRequest.DESCEND},
        {"sort_order": pb.RangeRequest.ASCEND, "sort_target": pb.RangeRequest.MOD},
        {"sort_order": pb.RangeRequest.DESCEND, "sort_target": pb.RangeRequest.VALUE},
    ],
    ids=str,
)
def test_an_order_of_ones_own_is_unimplemented(etcd, letters, options):
    with refused(STREAM_NO_SORT):
        stream(etcd, letters, **options)


@pytest.mark.parametrize(
    "name",
    ["min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"],
)
def test_revision_filters_are_unimplemented(etcd, letters, name):
    with refused(STREAM_NO_FILTER):
        stream(etcd, letters, **{name: 1})


def test_a_bad_request_is_refused_as_range_refuses_it(etcd, letters):
    with refused(EMPTY_KEY):
        etcd.range_stream(b"")
    with refused(INVALID_SORT):
        stream(etcd, letters, sort_order=9)
    with refused(INVALID_SORT):
        stream(etcd, letters, sort_target=9)


def test_future_and_compacted_revisions_are_refused(etcd, prefix):
    old = etcd.put(prefix).header.revision
    etcd.put(prefix)
    etcd.compact(old + 1)
    with refused(COMPACTED):
        stream(etcd, prefix, revision=old)
    with refused(COMPACTED):
        stream(etcd, prefix, revision=old, count_only=True)
    with refused(FUTURE_REVISION):
        stream(etcd, prefix, revision=old + 100)
