"""A store of many pages: written in bounded memory, taken by etcd, and left behind by a crash."""

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.servers import ETCDCTL, Datastore, Kind
from conformance.snapshots.content import FIRST
from conformance.snapshots.files import client, restored, save, status
from kvshim.pb.etcd import rpc_pb2 as pb
from tests.support.grpc_client import ALL

OBJECTS = 40_000
VALUE = b"x" * 1024
TXN_OPS = 100
MEMORY_MAX_KIB = 80 * 1024
PUT_SECONDS_MAX = 2.0


@pytest.fixture(scope="module")
def large(datastore_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Datastore]:
    directory = tmp_path_factory.mktemp("large")
    with Datastore(datastore_kind, directory) as store, client(store) as etcd:
        for first in range(0, OBJECTS, TXN_OPS):
            etcd.txn([_put(number) for number in range(first, first + TXN_OPS)])
        yield store


def test_etcd_takes_it_and_can_delete_all_of_it(large: Datastore, tmp_path: Path):
    with client(large) as etcd:
        hashed = etcd.hash_kv().hash
        memory_before = _memory_peak_kib(large)
        snapshot = save(large, tmp_path / "s.db")
        grown = _memory_peak_kib(large) - memory_before
    assert grown < MEMORY_MAX_KIB or large.kind is Kind.ETCD  # etcd maps the file
    assert status(snapshot)["totalKey"] == OBJECTS
    with restored(snapshot, tmp_path / "restored") as store, client(store) as etcd:
        assert etcd.hash_kv().hash == hashed
        assert etcd.range(FIRST, ALL, count_only=True).count == OBJECTS
        # bbolt takes pages apart and puts them together: they must be as it would write them.
        for first in range(0, OBJECTS, 5000):
            etcd.delete(_key(first), _key(first + 4990))
        etcd.compact(etcd.revision(), physical=True)
        etcd.put(b"last")
        assert etcd.range(FIRST, ALL, count_only=True).count == OBJECTS // 500 + 1
        store.restart()
        assert etcd.range(FIRST, ALL, count_only=True).count == OBJECTS // 500 + 1


def test_writes_go_on_meanwhile(large: Datastore, tmp_path: Path):
    longest = 0.0
    with client(large) as etcd:
        saving = threading.Thread(target=save, args=(large, tmp_path / "s.db"))
        saving.start()
        while saving.is_alive():
            began = time.monotonic()
            etcd.put(b"meanwhile", b"x")
            longest = max(longest, time.monotonic() - began)
        saving.join()
    assert longest < PUT_SECONDS_MAX


def test_a_crash_in_the_middle_leaves_nothing(large: Datastore, tmp_path: Path):
    target = tmp_path / "s.db"
    command = [str(ETCDCTL), f"--endpoints={large.client_url}", "snapshot", "save", str(target)]
    with client(large) as etcd:
        before = {file.name for file in large.data_dir.iterdir()}
        revision = etcd.put(b"acknowledged").header.revision
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as saving:
        part = target.with_name("s.db.part")
        deadline = time.monotonic() + 20
        while saving.poll() is None and not (part.exists() and part.stat().st_size):
            assert time.monotonic() < deadline
        large.kill()
        assert saving.wait(20) != 0
    assert not target.exists()
    if large.kind is Kind.KVSHIM:
        assert {file.name for file in large.data_dir.iterdir()} == before
    large.start()
    with client(large) as etcd:
        assert etcd.range(b"acknowledged").kvs[0].mod_revision == revision
    save(large, target)
    assert status(target)["revision"] >= revision


def _put(number: int) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=_key(number), value=VALUE))


def _key(number: int) -> bytes:
    return b"/registry/pods/%08d" % number


def _memory_peak_kib(store: Datastore) -> int:
    for line in Path(f"/proc/{store.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")
