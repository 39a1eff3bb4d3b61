"""A `sqlite3` shell left open on the store: the operator is told, and clients notice nothing.

As long as its transaction lasts the WAL can only grow; when it ends the WAL shrinks again.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvshim.logs import Event
from tests.soak.load import Load, load_objects
from tests.soak.node import WAL_BYTES_MAX, SoakNode, eventually
from tests.soak.test_wal import WRITE_P99_SECONDS_MAX
from tests.support.grpc_client import EtcdClient

OBJECTS = 1_000
PINNED_SECONDS_MAX = 10.0
"""Two checkpoints five seconds apart see that it stands still."""

RELEASED_SECONDS_MAX = 30.0
"""The checkpointer asks for a pause less and less often, at last every 16 s."""


def count(shell: sqlite3.Connection) -> int:
    (keys,) = shell.execute("SELECT count(*) FROM kv").fetchone()
    return int(keys)


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read transaction of another program."""
    shell = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    try:
        shell.execute("BEGIN")
        count(shell)
        yield shell
    finally:
        shell.close()


def pinned_seconds(node: SoakNode) -> float:
    return node.metric("kvshim_wal_pinned_seconds")


@pytest.fixture
def loaded(node: SoakNode, rng: random.Random) -> SoakNode:
    client = EtcdClient(node.target)
    load_objects(client, OBJECTS, rng)
    client.close()
    return node


def test_a_reader_of_a_long_wal_is_reported_until_it_ends(
    loaded: SoakNode, rng: random.Random, tell: Callable[[str], None]
) -> None:
    node = loaded
    with Load(node.target, OBJECTS, rng) as load:
        load.start(*[load.write] * 4, load.list_all, load.keep_lease)
        with reading(node.kv) as shell:
            keys, began = count(shell), time.monotonic()
            assert eventually(lambda: pinned_seconds(node) > 0, PINNED_SECONDS_MAX)
            tell(f"outside reader: reported after {time.monotonic() - began:.1f} s")
            assert eventually(lambda: node.wal_bytes() > 2 * WAL_BYTES_MAX, 90)
            (line,) = node.lines(Event.WAL_PINNED)
            assert line["level"] == "warn"
            assert not node.lines(Event.WAL_RELEASED)
            seconds = pinned_seconds(node)
            assert pinned_seconds(node) > seconds
            assert count(shell) == keys
        ended = time.monotonic()
        assert eventually(lambda: pinned_seconds(node) == 0, RELEASED_SECONDS_MAX)
        tell(f"outside reader: its end was noticed after {time.monotonic() - ended:.1f} s")
        assert eventually(lambda: node.wal_bytes() < 1.5 * WAL_BYTES_MAX, 30)
        load.stop()
    assert not load.record.failures, "\n".join(load.record.failures)
    p99 = load.record.percentile("put", 99)
    tell(f"outside reader: {load.record.counts['put']} puts, p99 {1000 * p99:.0f} ms")
    assert p99 < WRITE_P99_SECONDS_MAX
    assert not node.lines(Event.LEASES_EXPIRED)
    assert len(node.lines(Event.WAL_PINNED)) == 1
    assert len(node.lines(Event.WAL_RELEASED)) == 1


def test_a_reader_of_a_short_wal_is_reported_too(loaded: SoakNode) -> None:
    """Given a node with next to nothing to do, a pin is found before it costs much."""
    node = loaded
    client = EtcdClient(node.target)
    with reading(node.kv):
        client.put(b"a", b"1")
        assert eventually(lambda: pinned_seconds(node) > 0, 2 * PINNED_SECONDS_MAX)
        (line,) = node.lines(Event.WAL_PINNED)
        assert line["wal_bytes"] < WAL_BYTES_MAX
    assert eventually(lambda: pinned_seconds(node) == 0, RELEASED_SECONDS_MAX)
    assert eventually(lambda: len(node.lines(Event.WAL_RELEASED)) == 1, 5)
    client.close()


def test_a_shell_that_only_looks_in_is_not_reported(loaded: SoakNode) -> None:
    node = loaded
    client = EtcdClient(node.target)
    for number in range(20):
        with reading(node.kv):
            client.put(b"a%d" % number, b"1")
            time.sleep(0.2)
        time.sleep(0.1)
    assert not node.lines(Event.WAL_PINNED)
    assert node.wal_bytes() <= WAL_BYTES_MAX
    client.close()
