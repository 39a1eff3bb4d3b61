"""Snapshots saved, looked at and restored by etcd's own programs."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conformance.servers import BUILD_DIR, Datastore, Kind
from tests.support.grpc_client import EtcdClient

ETCDUTL = BUILD_DIR / "etcdutl"
SECONDS_MAX = 120.0


def save(store: Datastore, path: Path, *flags: str) -> Path:
    """`etcdctl snapshot save`."""
    store.etcdctl(*flags, "snapshot", "save", str(path))
    return path


def status(path: Path) -> dict[str, Any]:
    """`etcdutl snapshot status`, which checks every page and its order."""
    found: dict[str, Any] = json.loads(_etcdutl("snapshot", "status", str(path), "-w", "json"))
    return found


def restored(path: Path, directory: Path, flags: Sequence[str] = ()) -> Datastore:
    """`etcdutl snapshot restore`; etcd on it, not yet started."""
    store = Datastore(Kind.ETCD, directory)
    _etcdutl(
        "snapshot",
        "restore",
        str(path),
        f"--data-dir={store.data_dir}",
        "--name=m1",
        f"--initial-cluster=m1={store.peer_url}",
        f"--initial-advertise-peer-urls={store.peer_url}",
        *flags,
    )
    return store


@contextmanager
def client(store: Datastore) -> Iterator[EtcdClient]:
    """Of a server that runs."""
    etcd = EtcdClient(store.endpoint)
    try:
        yield etcd
    finally:
        etcd.close()


def _etcdutl(*arguments: str) -> str:
    done = subprocess.run(
        [str(ETCDUTL), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
