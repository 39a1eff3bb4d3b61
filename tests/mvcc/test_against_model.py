"""Random histories: whatever is done to the store, it answers as the plain model does."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kvshim.backend.backend import BackendOptions
from kvshim.errors import Compacted
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import KeyRange
from tests.mvcc.conftest import Driver, seen

Request = rpc_pb2.RangeRequest

KEYS = [b"\x00", b"a", b"a\x00", b"a/1", b"a/2", b"b", b"b\xff", b"c", b"\xff", b"\xff\xff"]
ENDS = [b"", b"\x00", b"a0", b"b", b"b\xff", b"c", b"d", b"\xff", b"\xff\xff\x00"]

keys = st.sampled_from(KEYS)
ends = st.sampled_from(ENDS)
puts = st.tuples(
    st.just("put"),
    keys,
    st.sampled_from([b"", b"v", b"value\x00\xff", b"w" * 200, b"x" * 20_000]),
    st.sampled_from([0, 0, 0, 7, 2**62, -3]),
)
deletes = st.tuples(st.just("delete"), keys, ends)
commands = st.one_of(
    st.tuples(st.just("txn"), st.lists(st.one_of(puts, puts, deletes), min_size=1, max_size=4)),
    st.tuples(st.just("txn"), st.lists(puts, min_size=1, max_size=1)),
    st.tuples(st.just("compact"), st.floats(0, 1.1)),
    st.tuples(st.just("upkeep"), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0)),
)
ranges = st.fixed_dictionaries(
    {"key": keys, "range_end": ends},
    optional={
        "limit": st.sampled_from([-1, 1, 2, 3, 100, 2**63 - 1]),
        "revision": st.integers(-1, 14),
        "sort_order": st.sampled_from([Request.NONE, Request.ASCEND, Request.DESCEND]),
        "sort_target": st.sampled_from(
            [Request.KEY, Request.VERSION, Request.CREATE, Request.MOD, Request.VALUE]
        ),
        "keys_only": st.booleans(),
        "count_only": st.sampled_from([False, False, True]),
        "min_mod_revision": st.integers(0, 8),
        "max_mod_revision": st.integers(0, 8),
        "min_create_revision": st.integers(0, 8),
        "max_create_revision": st.integers(0, 8),
    },
)


def run(driver: Driver, command: tuple) -> None:
    kind, what = command
    if kind == "txn":
        driver.txn(*what)
    elif kind == "compact":
        driver.compact(int(driver.model.revision * what))
    elif kind == "upkeep":
        driver.upkeep()
    else:
        driver.reopen()


def check_everything(driver: Driver) -> None:
    """Each revision as a whole, each watch, each lease."""
    model = driver.model
    for revision in range(max(model.compact_revision, 1), model.revision + 1):
        driver.range(key=b"\x00", range_end=b"\x00", revision=revision)
        driver.history(revision, b"\x00", b"\x00")
        for key in KEYS:
            driver.range(key=key, revision=revision)
            driver.history(revision, key, b"", max_bytes=30)
    with driver.store.read() as view:
        live = list(view.select(KeyRange(b"", None)))
        assert live == [kv for _, kv in sorted(model.at(model.revision).items())]
        for lease in (7, 2**62, -3):
            assert view.lease_keys(lease) == model.lease_keys(lease)
        for kv in live:
            assert view.get(kv.key) == kv


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(commands, max_size=25), st.lists(ranges, min_size=1, max_size=25))
@example(
    [("txn", [("put", b"a", b"1", 0)]), ("compact", 0.0), ("compact", 0.0)],
    [{"key": b"a", "range_end": b"", "revision": 1}],
)
def test_a_random_history_reads_like_the_model(commands: list, requests: list) -> None:
    directory = Path(tempfile.mkdtemp(prefix="kvshim-test-"))
    driver = Driver(directory / "kv-1.db", BackendOptions(page_size=1024))
    try:
        for command in commands:
            run(driver, command)
        for request in requests:
            driver.range(**request)
        check_everything(driver)
        driver.upkeep()
        driver.reopen()
        check_everything(driver)
        assert driver.store.physically_compacted == driver.model.compact_revision
    finally:
        driver.close()
        shutil.rmtree(directory)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.one_of(puts, deletes), min_size=1, max_size=5), max_size=12))
def test_events_of_apply_equal_those_of_history(commands: list) -> None:
    directory = Path(tempfile.mkdtemp(prefix="kvshim-test-"))
    driver = Driver(directory / "kv-1.db")
    try:
        for operations in commands:
            driver.txn(*operations)
        past = driver.history(1, b"\x00", b"\x00")
        assert [seen(event) for event in driver.events] == [seen(event) for event in past]
        for told, read in zip(driver.events, past, strict=True):
            assert told.encoded(False) == read.encoded(False)
            assert told.encoded(True) == read.encoded(True)
            assert told.create == read.create
    finally:
        driver.close()
        shutil.rmtree(directory)


def test_a_watch_below_the_compact_revision_is_refused(driver: Driver) -> None:
    driver.put(b"a", b"1")
    driver.put(b"a", b"2")
    driver.compact(3)
    with driver.store.read() as view, pytest.raises(Compacted):
        view.history(KeyRange.of(b"a", b""), 2, 3, 1000)
