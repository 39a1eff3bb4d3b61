"""`kvshim export`: the same file as a running node sends, of one that was stopped."""

import random
import subprocess
from pathlib import Path

from conformance.servers import Datastore, Kind
from conformance.snapshots.content import content, fill
from conformance.snapshots.files import client, restored, save, status
from conformance.snapshots.test_from_etcd import KEEP, imported


def run_export(file: Path, store: Datastore) -> subprocess.CompletedProcess[str]:
    command = [str(Kind.KVSHIM.program), "export", str(file), f"--data-dir={store.data_dir}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_stopped_node(tmp_path: Path):
    file = tmp_path / "offline.db"
    with Datastore(Kind.KVSHIM, tmp_path / "kvshim") as source, client(source) as etcd:
        fill(etcd, random.randrange(1 << 32), changes=60)
        had = content(etcd)
        online = save(source, tmp_path / "online.db")
        running = run_export(file, source)
        assert (running.returncode, running.stdout) == (1, "")
        assert "is in use by another kvshim process" in running.stderr
        assert not file.exists()
    done = run_export(file, source)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"Wrote {file}: {file.stat().st_size - 32} bytes, revision {had.revision + 2}.\n"
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert status(file)["totalKey"] == status(online)["totalKey"]
    with restored(file, tmp_path / "restored") as store, client(store) as etcd:
        has = content(etcd)
    assert {at: has.pairs[at] for at in had.pairs} == had.pairs
    # It is a backup as well.
    with imported(tmp_path / "kvshim-2", file, KEEP) as store, client(store) as etcd:
        has = content(etcd)
    assert {at: has.pairs[at] for at in had.pairs} == had.pairs
    assert {at: has.hashes[at] for at in had.hashes} == had.hashes
    assert has.leases == had.leases
    again = run_export(file, source)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    with source:  # it was only looked at
        assert source.revision() == had.revision + 2


def test_nothing_to_export(tmp_path: Path):
    empty = Datastore(Kind.KVSHIM, tmp_path / "kvshim")
    done = run_export(tmp_path / "s.db", empty)
    assert done.returncode == 1
    assert "holds no data of a node" in done.stderr
