"""KV.Range: every form of range, every option, and what header, count and more say."""

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api.errors import COMPACTED, EMPTY_KEY, FUTURE_REVISION, INVALID_SORT, refused
from tests.api.ops import keys, values
from tests.support.grpc_client import ALL, EtcdClient, prefix_end

LETTERS = (b"a", b"b", b"c", b"d", b"e")


@pytest.fixture
def letters(etcd: EtcdClient, prefix: bytes) -> bytes:
    """Five keys `a` to `e` whose value is their own letter."""
    for letter in LETTERS:
        etcd.put(prefix + letter, letter)
    return prefix


# --- forms of range


def test_a_single_key_is_read_without_a_range_end(etcd, letters):
    response = etcd.range(letters + b"c")
    assert keys(response) == [letters + b"c"]
    assert (response.count, response.more) == (1, False)


def test_a_missing_key_is_an_empty_answer(etcd, letters):
    response = etcd.range(letters + b"x")
    assert list(response.kvs) == []
    assert (response.count, response.more) == (0, False)
    assert response.header.revision > 0


def test_a_range_holds_its_start_and_not_its_end(etcd, letters):
    response = etcd.range(letters + b"b", letters + b"d")
    assert values(response) == [b"b", b"c"]


def test_a_prefix_is_a_range_up_to_the_next_prefix(etcd, letters):
    assert values(etcd.range(letters, prefix_end(letters))) == list(LETTERS)


def test_a_range_end_of_one_zero_byte_means_from_key(etcd, letters):
    response = etcd.range(letters + b"d", ALL)
    assert values(response)[:2] == [b"d", b"e"]


def test_key_and_range_end_of_one_zero_byte_mean_every_key(fresh):
    fresh.put(b"\x00", b"lowest")
    fresh.put(b"m", b"middle")
    fresh.put(b"\xff\xff", b"highest")
    response = fresh.range(ALL, ALL)
    assert values(response) == [b"lowest", b"middle", b"highest"]


@pytest.mark.parametrize(("start", "end"), [(b"c", b"c"), (b"d", b"b")])
def test_a_range_that_ends_at_or_before_its_start_is_empty(etcd, letters, start, end):
    response = etcd.range(letters + start, letters + end)
    assert (list(response.kvs), response.count, response.more) == ([], 0, False)


def test_keys_are_bytes_in_byte_order(etcd, prefix):
    names = [b"\x00", b"\x00\xff", b"\x7f", b"\x80", b"\xc3\x28", b"\xff", b"\xff\x00"]
    for name in reversed(names):
        etcd.put(prefix + name, name)
    assert values(etcd.list_prefix(prefix)) == names


def test_an_empty_key_is_refused(etcd):
    with refused(EMPTY_KEY):
        etcd.range(b"", b"z")


# --- what a key says of itself


def test_a_key_tells_its_revisions_version_value_and_lease(etcd, prefix):
    lease = etcd.grant(1000).ID
    created = etcd.put(prefix, b"one").header.revision
    changed = etcd.put(prefix, b"two", lease=lease).header.revision
    (kv,) = etcd.range(prefix).kvs
    assert (kv.key, kv.value, kv.lease) == (prefix, b"two", lease)
    assert (kv.create_revision, kv.mod_revision, kv.version) == (created, changed, 2)


def test_a_key_that_comes_back_starts_again_at_version_one(etcd, prefix):
    etcd.put(prefix, b"first life")
    etcd.delete(prefix)
    revision = etcd.put(prefix, b"second life").header.revision
    (kv,) = etcd.range(prefix).kvs
    assert (kv.create_revision, kv.mod_revision, kv.version) == (revision, revision, 1)


# --- limit, count, more


def test_a_limit_cuts_the_list_and_count_is_the_total(etcd, letters):
    response = etcd.list_prefix(letters, limit=2)
    assert values(response) == [b"a", b"b"]
    assert (response.count, response.more) == (5, True)


@pytest.mark.parametrize("limit", [5, 6, 2**63 - 1])
def test_a_limit_not_reached_leaves_nothing_more(etcd, letters, limit):
    response = etcd.list_prefix(letters, limit=limit)
    assert (len(response.kvs), response.count, response.more) == (5, 5, False)


def test_a_negative_limit_is_no_limit(etcd, letters):
    response = etcd.list_prefix(letters, limit=-1)
    assert (len(response.kvs), response.count, response.more) == (5, 5, False)


def test_pages_at_one_revision_make_the_whole_list(etcd, letters):
    first = etcd.list_prefix(letters, limit=2)
    etcd.put(letters + b"bb", b"too late")
    etcd.delete(letters + b"c")
    revision = first.header.revision
    pages, start, counts = [values(first)], first.kvs[-1].key + b"\x00", [first.count]
    while True:
        page = etcd.range(start, prefix_end(letters), limit=2, revision=revision)
        pages.append(values(page))
        counts.append(page.count)
        if not page.more:
            break
        start = page.kvs[-1].key + b"\x00"
    assert pages == [[b"a", b"b"], [b"c", b"d"], [b"e"]]
    assert counts == [5, 3, 1]


def test_count_only_ignores_the_limit_and_sends_no_keys(etcd, letters):
    response = etcd.list_prefix(letters, count_only=True, limit=2)
    assert (list(response.kvs), response.count, response.more) == ([], 5, False)


def test_count_only_of_a_past_revision(etcd, letters):
    revision = etcd.revision()
    etcd.delete(letters, prefix_end(letters))
    assert etcd.list_prefix(letters, count_only=True).count == 0
    assert etcd.list_prefix(letters, count_only=True, revision=revision).count == 5


# --- revisions


def test_a_past_revision_reads_as_it_was_under_the_current_header(etcd, prefix):
    first = etcd.put(prefix + b"a", b"old").header.revision
    etcd.put(prefix + b"a", b"new")
    current = etcd.put(prefix + b"b", b"later").header.revision
    response = etcd.list_prefix(prefix, revision=first)
    assert values(response) == [b"old"]
    assert (response.kvs[0].mod_revision, response.kvs[0].version) == (first, 1)
    assert response.header.revision == current


def test_a_deleted_key_is_still_there_at_the_revision_before(etcd, prefix):
    put = etcd.put(prefix, b"v").header.revision
    deleted = etcd.delete(prefix).header.revision
    assert values(etcd.range(prefix, revision=put)) == [b"v"]
    assert values(etcd.range(prefix, revision=deleted)) == []


def test_a_key_is_absent_before_its_creation(etcd, prefix):
    revision = etcd.revision()
    etcd.put(prefix, b"v")
    assert etcd.range(prefix, revision=revision).count == 0


def test_a_future_revision_is_refused(etcd, letters):
    with refused(FUTURE_REVISION):
        etcd.list_prefix(letters, revision=etcd.revision() + 1)


def test_a_compacted_revision_is_refused(etcd, letters):
    revision = etcd.revision()
    etcd.put(letters + b"a", b"again")
    etcd.compact(revision + 1)
    with refused(COMPACTED):
        etcd.list_prefix(letters, revision=revision)
    with refused(COMPACTED):
        etcd.list_prefix(letters, revision=revision, count_only=True)


def test_a_negative_revision_reads_the_current_one(etcd, letters):
    assert values(etcd.list_prefix(letters, revision=-1)) == list(LETTERS)


def test_a_serializable_read_answers_the_same(etcd, letters):
    assert values(etcd.list_prefix(letters, serializable=True)) == list(LETTERS)


# --- keys only


def test_keys_only_leaves_out_the_value(etcd, prefix):
    revision = etcd.put(prefix, b"v").header.revision
    (kv,) = etcd.range(prefix, keys_only=True).kvs
    assert (kv.key, kv.value, kv.mod_revision, kv.version) == (prefix, b"", revision, 1)


# --- filters


@pytest.fixture
def aged(etcd: EtcdClient, prefix: bytes) -> tuple[bytes, int]:
    """Keys a, b, c created at base+1..3; then a changed at base+4. Returns (prefix, base)."""
    base = etcd.revision()
    for letter in LETTERS[:3]:
        etcd.put(prefix + letter, letter)
    etcd.put(prefix + b"a", b"a")
    return prefix, base


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"min_mod_revision": 3}, [b"a", b"c"]),
        ({"max_mod_revision": 2}, [b"b"]),
        ({"min_mod_revision": 2, "max_mod_revision": 3}, [b"b", b"c"]),
        ({"min_create_revision": 2}, [b"b", b"c"]),
        ({"max_create_revision": 1}, [b"a"]),
        ({"min_create_revision": 1, "max_create_revision": 2}, [b"a", b"b"]),
        ({"max_create_revision": 1, "max_mod_revision": 3}, []),
    ],
)
def test_revision_filters_bound_both_ends_inclusively(etcd, aged, options, expected):
    prefix, base = aged
    bounds = {name: base + offset for name, offset in options.items()}
    assert values(etcd.list_prefix(prefix, **bounds)) == expected


def test_filters_apply_to_the_past_as_it_was(etcd, aged):
    prefix, base = aged
    response = etcd.list_prefix(prefix, revision=base + 3, max_mod_revision=base + 1)
    assert values(response) == [b"a"]


# --- sorting


@pytest.fixture
def mixed(etcd: EtcdClient, prefix: bytes) -> bytes:
    """Keys whose order differs by each target.

    key order a b c; created c a b; changed b c a (b's last change is the oldest); versions
    b=1 c=2 a=3; values by last write a="2" b="3" c="1".
    """
    for name in (b"c", b"a", b"b"):
        etcd.put(prefix + name, b"3")
    etcd.put(prefix + b"a", b"0")
    etcd.put(prefix + b"c", b"1")
    etcd.put(prefix + b"a", b"2")
    return prefix


TARGETS = [
    (pb.RangeRequest.KEY, b"abc"),
    (pb.RangeRequest.VERSION, b"bca"),
    (pb.RangeRequest.CREATE, b"cab"),
    (pb.RangeRequest.MOD, b"bca"),
    (pb.RangeRequest.VALUE, b"cab"),
]


@pytest.mark.parametrize(("target", "expected"), TARGETS)
@pytest.mark.parametrize("order", [pb.RangeRequest.ASCEND, pb.RangeRequest.DESCEND])
def test_every_target_sorts_both_ways(etcd, mixed, target, order, expected):
    response = etcd.list_prefix(mixed, sort_target=target, sort_order=order)
    found = b"".join(key.removeprefix(mixed) for key in keys(response))
    assert found == (expected if order == pb.RangeRequest.ASCEND else expected[::-1])


def test_a_sorted_list_is_limited_after_sorting(etcd, mixed):
    response = etcd.list_prefix(
        mixed, sort_target=pb.RangeRequest.CREATE, sort_order=pb.RangeRequest.DESCEND, limit=2
    )
    assert keys(response) == [mixed + b"b", mixed + b"a"]
    assert (response.count, response.more) == (3, True)


def test_the_last_key_is_found_by_descending_order_and_limit_one(etcd, mixed):
    response = etcd.list_prefix(mixed, sort_order=pb.RangeRequest.DESCEND, limit=1)
    assert keys(response) == [mixed + b"c"]


def test_no_order_is_key_order(etcd, mixed):
    assert keys(etcd.list_prefix(mixed)) == [mixed + name for name in (b"a", b"b", b"c")]


@pytest.mark.parametrize("options", [{"sort_order": 3}, {"sort_target": 5}, {"sort_target": -1}])
def test_an_unknown_order_or_target_is_refused(etcd, letters, options):
    with refused(INVALID_SORT):
        etcd.list_prefix(letters, **options)
