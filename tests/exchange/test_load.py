"""A store that was written to a file and loaded from it is the same store, whatever its past."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshim.bbolt.reader import BboltFile
from kvshim.bbolt.writer import BboltWriter
from kvshim.errors import KvshimError, StorageError
from kvshim.exchange import buckets, load
from kvshim.exchange.load import load_etcd_file, load_present, summary
from kvshim.mvcc.hashing import hash_content
from kvshim.mvcc.records import LeaseRecord
from kvshim.mvcc.scrub import first_fault
from kvshim.mvcc.store import Store
from kvshim.pb.etcd.auth_pb2 import Role, User
from kvshim.pb.etcd.kv_pb2 import KeyValue as Pair
from kvshim.types import KeyRange, KeyValue, LeaseID, Revision
from tests.exchange.support import change, compact, export, open_store

ALL = KeyRange(b"", None)
KEYS = [b"a", b"b", b"c"]

puts = st.tuples(st.sampled_from(KEYS), st.binary(max_size=3))
deletions = st.tuples(st.sampled_from(KEYS), st.none())
commands = st.lists(st.lists(puts | deletions, min_size=1, max_size=4), max_size=12)


@contextmanager
def opened(path: Path) -> Iterator[Store]:
    store = open_store(path)
    try:
        yield store
    finally:
        store.close()


def loaded(source: Store, directory: Path, store: Store) -> None:
    file = directory / "s.db"
    export(source, file)
    with BboltFile.open(file) as opened_file:
        load_etcd_file(opened_file, store, lambda _: None)


def seen(store: Store) -> dict[str, object]:
    """All that clients can see."""
    first = max(store.compact_revision, 1)
    with store.read() as view:
        assert first_fault(view) is None
        readable = range(first, view.revision + 1)
        events, _ = view.history(ALL, Revision(first), view.revision, 1 << 30)
        return {
            "revision": view.revision,
            "compacted": view.compact_revision,
            "pairs": [list(view.versions(ALL, Revision(at), -1)) for at in readable],
            "events": [(event.pair, event.prev, event.create) for event in events],
            "leases": view.leases(),
            "auth": view.auth(),
            "hashes": [hash_content(store, at) for at in readable if at > first],
        }


@settings(max_examples=80)
@given(commands, st.integers(0, 12), commands)
def test_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[list[tuple[bytes, bytes | None]]],
    compacted_at: int,
    later: list[list[tuple[bytes, bytes | None]]],
):
    directory = tmp_path_factory.mktemp("load")
    with opened(directory / "a.db") as source, opened(directory / "b.db") as target:
        for one in before:
            change(source, *one)
        if compacted_at <= source.revision:
            compact(source, compacted_at)
        loaded(source, directory, target)
        assert seen(target) == seen(source)
        # It can go on from there: lives, their ends and the next compaction fit together.
        for one in later:
            assert change(target, *one) == change(source, *one)
        assert seen(target) == seen(source)
        for store in (source, target):
            compact(store, store.revision) if store.revision > store.compact_revision else None
            while store.between_batches():
                pass
        assert seen(target) == seen(source)
        assert summary(target).versions == summary(source).versions


def test_leases_and_users(tmp_path: Path):
    with opened(tmp_path / "a.db") as source, opened(tmp_path / "b.db") as target:
        with source.write() as batch:
            batch.lease_put(LeaseRecord(LeaseID(-5), 60))
            batch.lease_put(LeaseRecord(LeaseID(7), 600, 599))
            txn = batch.begin()
            txn.put(b"leased", b"", LeaseID(7))
            txn.finish()
            batch.auth_put(True, 9)
            batch.auth_user_put("root", User(name=b"root", roles=["root"]).SerializeToString())
            batch.auth_role_put("root", Role(name=b"root").SerializeToString())
        loaded(source, tmp_path, target)
        assert seen(target) == seen(source)
        with target.read() as view:
            assert view.lease_keys(LeaseID(7)) == [b"leased"]
            assert view.format_version == 4
        found = summary(target)
        assert (found.keys, found.leases, found.users, found.roles) == (1, 2, 1, 1)
        assert found.auth_enabled


def test_without_users_the_format_stays_old(tmp_path: Path):
    with opened(tmp_path / "a.db") as source, opened(tmp_path / "b.db") as target:
        loaded(source, tmp_path, target)
        with target.read() as view:
            assert view.auth() is None
            assert view.format_version == 1


def test_batches_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "BATCH_ROWS", 2)
    told: list[int] = []
    with opened(tmp_path / "a.db") as source, opened(tmp_path / "b.db") as target:
        for number in range(7):
            change(source, (b"a", b"%d" % number), (b"b", b""))
        export(source, tmp_path / "s.db")
        with BboltFile.open(tmp_path / "s.db") as file:
            load_etcd_file(file, target, told.append)
        assert seen(target) == seen(source)
    assert told == [2, 4, 6, 8, 10, 12, 14]


def test_present_keys_of_one_transaction_share_its_revision(tmp_path: Path):
    """They come in key order, and nobody knows their places."""
    versions = [
        KeyValue(b"a", b"1", Revision(3), Revision(9), 4, LeaseID(0)),
        KeyValue(b"b", b"2", Revision(9), Revision(9), 1, LeaseID(60)),
        KeyValue(b"c", b"3", Revision(3), Revision(5), 2, LeaseID(60)),
        KeyValue(b"d", b"4", Revision(3), Revision(9), 2, LeaseID(0)),
    ]
    with opened(tmp_path / "kv.db") as store:
        load_present(versions, Revision(12), store, lambda _: None)
        with store.read() as view:
            assert first_fault(view) is None
            assert [one._replace(sub=0) for one in view.select(ALL)] == versions
            assert (view.revision, view.compact_revision) == (12, 12)
            assert view.leases() == [LeaseRecord(LeaseID(60), 60)]
        change(store, (b"a", None), (b"c", b"new"))
        compact(store, store.revision)
        while store.between_batches():
            pass
        with store.read() as view:
            assert [one.key for one in view.select(ALL)] == [b"b", b"c", b"d"]


def pair(revision: int, sub: int = 0, **fields: object) -> tuple[bytes, bytes]:
    given = {"key": b"k", "create_revision": revision, "mod_revision": revision, "version": 1}
    return buckets.place(revision, sub), Pair(**{**given, **fields}).SerializeToString()  # type: ignore[arg-type]


INDEX = (buckets.CONSISTENT_INDEX, buckets.number(5))


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([(b"short", b"")], "is no revision"),
        ([(buckets.place(2, 0, b"x"), b"")], "is no revision"),
        ([(buckets.place(2, 0), b"\xff")], "a version in the file cannot be read"),
        ([pair(2, mod_revision=3)], "says that it is of 3"),
        ([pair(2), pair(3)], "does not follow"),
        ([pair(2), pair(3, create_revision=2, version=3)], "does not follow"),
        ([pair(2, create_revision=3, version=2)], "a beginning that cannot be"),
        ([pair(2, create_revision=1, version=-1)], "a beginning that cannot be"),
        ([pair(1 << 40)], "larger than kvshim can hold"),
        ([pair(2, 1 << 24)], "larger than kvshim can hold"),
    ],
)
def test_what_etcd_would_not_have_written(
    tmp_path: Path, pairs: list[tuple[bytes, bytes]], said: str
):
    write_file(tmp_path / "s.db", {buckets.KEY: pairs, buckets.META: [INDEX]})
    with (
        opened(tmp_path / "kv.db") as store,
        BboltFile.open(tmp_path / "s.db") as file,
        pytest.raises(KvshimError, match=said),
    ):
        load_etcd_file(file, store, lambda _: None)


def test_a_bbolt_file_that_is_not_etcds(tmp_path: Path):
    write_file(tmp_path / "s.db", {b"other": [(b"a", b"b")]})
    with (
        opened(tmp_path / "kv.db") as store,
        BboltFile.open(tmp_path / "s.db") as file,
        pytest.raises(KvshimError, match="not one of etcd's"),
    ):
        load_etcd_file(file, store, lambda _: None)


def test_lives_whose_beginning_is_gone_stay_apart(tmp_path: Path):
    """Three keys were made by one transaction; two have been changed since, and compacted."""
    pairs = [
        pair(2, 1, key=b"b"),
        pair(3, key=b"a", create_revision=2, version=2),
        pair(4, key=b"c", create_revision=2, version=2),
        pair(5, key=b"a", create_revision=2, version=3),
    ]
    compacted = (buckets.FINISHED_COMPACTION, buckets.place(4, 0))
    write_file(tmp_path / "s.db", {buckets.KEY: pairs, buckets.META: [INDEX, compacted]})
    with opened(tmp_path / "kv.db") as store:
        with BboltFile.open(tmp_path / "s.db") as file:
            load_etcd_file(file, store, lambda _: None)
        with store.read() as view:
            assert first_fault(view) is None
            at_4, at_5 = (view.versions(ALL, Revision(at), -1) for at in (4, 5))
        assert [(one.key, one.version) for one in at_4] == [(b"a", 2), (b"b", 1), (b"c", 2)]
        assert [(one.key, one.version) for one in at_5] == [(b"a", 3), (b"b", 1), (b"c", 2)]


def test_there_is_an_end_to_revisions(tmp_path: Path):
    with opened(tmp_path / "kv.db") as store:
        with store.write() as batch:
            batch.skip((1 << 39) - 2)
        with pytest.raises(StorageError, match="no revisions left"), store.write() as batch:
            batch.skip(1)


def write_file(path: Path, content: dict[bytes, list[tuple[bytes, bytes]]]) -> None:
    with path.open("w+b") as file:
        writer = BboltWriter(file)
        for name, pairs in sorted(content.items()):
            writer.begin(name)
            writer.add(sorted(pairs))
        writer.finish()
