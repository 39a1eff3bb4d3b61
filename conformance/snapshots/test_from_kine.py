"""The present keys of kine, as of K3s and k8s-dqlite: from a server that runs, and from its file.

Needs kine, which is built only by name: `python conformance/build.py kine`.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.servers import Datastore, Kind
from conformance.snapshots.files import client
from conformance.snapshots.test_from_etcd import KEEP, SKIPPED, imported, run_import
from kvshim.pb.etcd import rpc_pb2 as pb
from tests.support.grpc_client import EtcdClient

KEYS = 1300
"""More than two pages."""

pytestmark = pytest.mark.skipif(
    not Kind.KINE.program.exists(), reason="kine is not built: python conformance/build.py kine"
)


@pytest.fixture
def kine(tmp_path: Path) -> Iterator[Datastore]:
    """With objects that were made, changed and deleted, and one that a lease will end."""
    with Datastore(Kind.KINE, tmp_path / "kine") as store, client(store) as etcd:
        for number in range(KEYS):
            create(etcd, b"/registry/pods/%05d" % number, b"first")
        for number in range(0, KEYS, 10):
            update(etcd, b"/registry/pods/%05d" % number, b"second")
        for number in range(5, KEYS, 10):
            delete(etcd, b"/registry/pods/%05d" % number)
        create(etcd, b"/registry/events/e", b"leased", lease=etcd.grant(3600).ID)
        yield store


def present(etcd: EtcdClient) -> dict[bytes, tuple[bytes, int, int]]:
    found = etcd.range(b"/registry/", b"/registry0")
    return {kv.key: (kv.value, kv.create_revision, kv.mod_revision) for kv in found.kvs}


def test_a_server_that_runs(kine: Datastore, tmp_path: Path):
    with client(kine) as etcd:
        had = present(etcd)
        revision = etcd.range(b"/registry/", b"/registry0", limit=1).header.revision
    assert len(had) == KEYS - KEYS // 10 + 2  # kine keeps /registry/health
    store = Datastore(Kind.KVSHIM, tmp_path / "kvshim")
    told = run_import(f"--from-endpoint={kine.client_url}", f"--data-dir={store.data_dir}")
    assert "The server gives no snapshot, as kine and k8s-dqlite" in told
    _check(store, had, revision + SKIPPED)


def test_a_server_behind_a_socket(tmp_path: Path):
    """As MicroK8s has it; the name ends like a port."""
    socket = tmp_path / "kine.sock:12379"
    command = [str(Kind.KINE.program), f"--listen-address=unix://{socket}"]
    command += [f"--endpoint=sqlite://{tmp_path}/state.db", "--metrics-bind-address=0"]
    target = f"--data-dir={tmp_path / 'kvshim'}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as kine:
        try:
            deadline = time.monotonic() + 20
            while not socket.exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            told = run_import(f"--from-endpoint=unix://{socket}", target)
        finally:
            kine.terminate()
    assert "keys: 1, in 1 versions" in told  # kine keeps /registry/health


def test_the_file_of_a_server_that_runs(kine: Datastore, tmp_path: Path):
    with client(kine) as etcd:
        had = present(etcd)
        revision = etcd.range(b"/registry/", b"/registry0", limit=1).header.revision
    store = Datastore(Kind.KVSHIM, tmp_path / "kvshim")
    told = run_import(kine.data_dir / "kine.db", f"--data-dir={store.data_dir}")
    assert "kine has no users, and counts no versions" in told
    _check(store, had, revision + SKIPPED)


def test_the_file_of_a_server_that_was_stopped(kine: Datastore, tmp_path: Path):
    with client(kine) as etcd:
        had = present(etcd)
        revision = etcd.range(b"/registry/", b"/registry0", limit=1).header.revision
    kine.stop()
    with imported(tmp_path / "kvshim", kine.data_dir / "kine.db", KEEP) as store:
        pass
    _check(store, had, revision)


def test_a_file_of_something_else(tmp_path: Path):
    """kvshim's own, for example."""
    with Datastore(Kind.KVSHIM, tmp_path / "other") as other:
        pass
    target = f"--data-dir={tmp_path / 'kvshim'}"
    said = run_import(other.data_dir / "kv-1.db", target, code=1)
    assert "has no table kine" in said


def _check(store: Datastore, had: dict[bytes, tuple[bytes, int, int]], revision: int) -> None:
    with store, client(store) as etcd:
        assert present(etcd) == had
        assert etcd.revision() == revision
        (lease,) = etcd.leases().leases
        left = etcd.time_to_live(lease.ID, keys=True)
        assert (left.grantedTTL, list(left.keys)) == (3600, [b"/registry/events/e"])
        # An API server goes on from the revisions that it knows.
        update(etcd, b"/registry/pods/00000", b"third")
        assert etcd.range(b"/registry/pods/00000").kvs[0].mod_revision == revision + 1
        delete(etcd, b"/registry/pods/00001")
        etcd.compact(etcd.revision(), physical=True)
        assert len(present(etcd)) == len(had) - 1
    store.start()
    store.stop()


def create(etcd: EtcdClient, key: bytes, value: bytes, lease: int = 0) -> None:
    put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))
    assert etcd.txn([put], compare=[unchanged(key, 0)]).succeeded


def update(etcd: EtcdClient, key: bytes, value: bytes) -> None:
    put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))
    _guarded(etcd, key, put)


def delete(etcd: EtcdClient, key: bytes) -> None:
    _guarded(etcd, key, pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key)))


def _guarded(etcd: EtcdClient, key: bytes, change: pb.RequestOp) -> None:
    """Change a key as the API server does; kine may not show it at once."""
    get = pb.RequestOp(request_range=pb.RangeRequest(key=key))
    for _ in range(20):
        (found,) = etcd.range(key).kvs
        compare = [unchanged(key, found.mod_revision)]
        if etcd.txn([change], compare=compare, failure=[get]).succeeded:
            return
        time.sleep(0.05)
    raise AssertionError(f"{key!r} cannot be changed")


def unchanged(key: bytes, revision: int) -> pb.Compare:
    return pb.Compare(
        key=key, target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=revision
    )
