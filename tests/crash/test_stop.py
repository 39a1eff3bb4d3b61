"""How a node ends: by SIGTERM with everything done, or by a full disk with nothing lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.crash.ledger import Ledger
from tests.crash.support import Ended, contents
from tests.crash.test_sigkill import Writer
from tests.support.datastore import Datastore, Kind
from tests.support.grpc_client import ALL, EtcdClient

STOP_SECONDS_MAX = 5.0
DISK_BYTES = 12 << 20


def wait_for_end(store: Datastore, seconds: float) -> Ended:
    """Wait until it ended by itself."""
    assert store.process is not None
    code = store.process.wait(seconds)
    store.process = None
    return Ended(code, store.log.read_text())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Datastore]:
    store = Datastore(Kind.KVSHIM, tmp_path)
    store.start()
    yield store
    store.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_in_time_under_load(
    store: Datastore, number: signal.Signals
) -> None:
    ledger = Ledger()
    writers = [Writer(f"w{n}", store.target, ledger, random.Random(n)) for n in range(4)]
    watcher = EtcdClient(store.target)
    with watcher.watch_stream() as stream:
        stream.create(ALL, ALL)
        for writer in writers:
            writer.start()
        time.sleep(0.5)
        assert store.process is not None
        began = time.monotonic()
        store.process.send_signal(number)
        ended = wait_for_end(store, 2 * STOP_SECONDS_MAX)
        seconds = time.monotonic() - began
    watcher.close()
    for writer in writers:
        writer.join(10)

    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert seconds < STOP_SECONDS_MAX
    assert set(contents(store.directory / "data")) >= {"raft.db", "kv-1.db"}
    logs = [
        name
        for name, content in contents(store.directory / "data").items()
        if "-wal" in name and content
    ]
    assert not logs, "a stopped node leaves whole files"
    store.start()
    client = EtcdClient(store.target)
    ledger.check(client)
    client.close()
    assert ledger.acknowledged


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB, which only root can make."""
    directory = tmp_path / "disk"
    directory.mkdir()
    options = f"size={DISK_BYTES},mode=0700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small file system here")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def put_until_it_ends(target: str) -> dict[bytes, int]:
    """Acknowledged keys and their revisions, up to the first call that failed."""
    client = EtcdClient(target)
    acknowledged: dict[bytes, int] = {}
    try:
        while True:
            key = b"key-%06d" % len(acknowledged)
            acknowledged[key] = client.put(key, b"v" * 20_000).header.revision
    except grpc.RpcError:
        return acknowledged
    finally:
        client.close()


def test_a_full_disk_stops_the_node_and_loses_nothing(small_disk: Path) -> None:
    store = Datastore(Kind.KVSHIM, small_disk)
    store.start()
    try:
        acknowledged = put_until_it_ends(store.target)
        ended = wait_for_end(store, 10)
        ended.assert_refused()
        assert "full" in ended.sentence

        refused = Datastore(Kind.KVSHIM, small_disk)
        subprocess.run(
            ["mount", "-o", f"remount,size={8 * DISK_BYTES}", str(small_disk)], check=True
        )
        refused.start()
        store = refused
        client = EtcdClient(store.target)
        found = {kv.key: kv.mod_revision for kv in client.range(ALL, ALL).kvs}
        client.close()
        assert len(acknowledged) > 50
        assert {key: found.get(key) for key in acknowledged} == acknowledged
    finally:
        store.stop()
