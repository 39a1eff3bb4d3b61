"""KV.Compact: what is gone, what stays, and what a compaction answers."""

import pytest

from tests.api.errors import COMPACTED, FUTURE_REVISION, refused
from tests.api.ops import values


@pytest.mark.parametrize("physical", [False, True])
def test_revisions_below_are_gone_and_the_rest_stays(etcd, prefix, physical):
    first = etcd.put(prefix, b"1").header.revision
    etcd.put(prefix, b"2")
    etcd.put(prefix, b"3")
    etcd.compact(first + 1, physical=physical)
    with refused(COMPACTED):
        etcd.range(prefix, revision=first)
    assert values(etcd.range(prefix, revision=first + 1)) == [b"2"]
    assert values(etcd.range(prefix, revision=first + 2)) == [b"3"]
    assert values(etcd.range(prefix)) == [b"3"]


def test_the_header_has_the_current_revision_and_none_is_made(etcd, prefix):
    current = etcd.put(prefix).header.revision
    assert etcd.compact(current - 1).header.revision == current
    assert etcd.revision() == current


def test_keys_untouched_for_long_survive(etcd, prefix):
    old = etcd.put(prefix + b"old", b"kept").header.revision
    for _ in range(3):
        etcd.put(prefix + b"new")
    current = etcd.revision()
    etcd.compact(current, physical=True)
    (kv,) = etcd.range(prefix + b"old", revision=current).kvs
    assert (kv.value, kv.mod_revision, kv.create_revision) == (b"kept", old, old)


def test_a_deleted_key_stays_deleted(etcd, prefix):
    etcd.put(prefix, b"v")
    deleted = etcd.delete(prefix).header.revision
    etcd.put(prefix + b"other")
    etcd.compact(deleted + 1, physical=True)
    assert etcd.range(prefix).count == 0
    assert etcd.range(prefix, revision=deleted + 1).count == 0
    assert etcd.put(prefix, b"again", prev_kv=True).header.revision == deleted + 2
    assert etcd.range(prefix).kvs[0].version == 1


def test_versions_go_on_counting(etcd, prefix):
    for _ in range(3):
        etcd.put(prefix)
    etcd.compact(etcd.revision(), physical=True)
    etcd.put(prefix)
    assert etcd.range(prefix).kvs[0].version == 4


def test_the_current_revision_can_be_compacted_and_read(etcd, prefix):
    current = etcd.put(prefix, b"v").header.revision
    etcd.compact(current)
    assert values(etcd.range(prefix, revision=current)) == [b"v"]


def test_a_second_compaction_at_or_below_is_refused(etcd, prefix):
    etcd.put(prefix)
    current = etcd.put(prefix).header.revision
    etcd.compact(current)
    for revision in (current, current - 1, 1, 0, -1):
        with refused(COMPACTED):
            etcd.compact(revision)
    with refused(COMPACTED):
        etcd.compact(current, physical=True)


def test_a_future_revision_is_refused(etcd):
    with refused(FUTURE_REVISION):
        etcd.compact(etcd.revision() + 1)


def test_a_long_history_of_many_keys_is_compacted_piece_by_piece(etcd, prefix):
    calls = [etcd.put_later(prefix + b"%d" % (n % 50), b"%d" % n) for n in range(1000)]
    revision = max(call.result().header.revision for call in calls)
    before = [(kv.key, kv.value) for kv in etcd.list_prefix(prefix).kvs]
    etcd.compact(revision, physical=True)
    after = etcd.list_prefix(prefix, revision=revision)
    assert [(kv.key, kv.value) for kv in after.kvs] == before
    assert after.count == 50


def test_one_refused_still_waits_for_the_rows_of_those_before(etcd, prefix):
    """What a compaction hashed is told once its rows are gone, so that shows whether they are."""
    etcd.put(prefix)
    before = etcd.revision()
    etcd.compact(before, physical=True)
    calls = [etcd.put_later(prefix + b"%d" % (n % 50), b"%d" % n) for n in range(3000)]
    revision = max(call.result().header.revision for call in calls)
    etcd.compact(revision)
    with refused(COMPACTED):
        etcd.compact(1, physical=True)
    assert etcd.hash_kv(revision).compact_revision == before
