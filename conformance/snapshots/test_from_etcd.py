"""What etcd has, imported from a snapshot, a data directory or the server itself."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from conformance.certs import write_certs
from conformance.servers import Datastore, Kind
from conformance.snapshots.content import content, fill
from conformance.snapshots.files import client, restored, save, status

SECONDS_MAX = 60.0
SKIPPED = 1_000_000_000
KEEP = "--bump-revision=0"


def run_import(*arguments: str | Path, code: int = 0, environ: dict[str, str] | None = None) -> str:
    """`kvshim import`; what it prints, or with another code, the sentence of why not."""
    done = subprocess.run(
        [str(Kind.KVSHIM.program), "import", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environ or {})},
    )
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr
    assert done.stderr == ""  # no bar where there is no terminal
    return done.stdout


def imported(directory: Path, *arguments: str | Path) -> Datastore:
    """kvshim on what was imported, not yet started."""
    store = Datastore(Kind.KVSHIM, directory)
    run_import(*arguments, f"--data-dir={store.data_dir}")
    return store


@pytest.fixture
def etcd(tmp_path: Path) -> Datastore:
    """Not yet started."""
    return Datastore(Kind.ETCD, tmp_path / "etcd")


def test_the_whole_past_there_and_back(etcd: Datastore, tmp_path: Path):
    with etcd, client(etcd) as source:
        fill(source, random.randrange(1 << 32))
        had = content(source)
        snapshot = save(etcd, tmp_path / "s.db")
    with imported(tmp_path / "kvshim", snapshot, KEEP) as store, client(store) as target:
        assert target.revision() == had.revision + 2
        has = content(target)
        again = save(store, tmp_path / "again.db")
        assert content(target).revision == has.revision + 2
    with restored(again, tmp_path / "restored") as store, client(store) as target:
        back = content(target)
    for there in (has, back):
        assert there.first_readable == had.first_readable > 1
        assert {at: there.pairs[at] for at in had.pairs} == had.pairs
        assert there.events[: len(had.events)] == had.events
        assert there.leases == had.leases
        assert {at: there.hashes[at] for at in had.hashes} == had.hashes


def test_by_default_the_revision_rises_and_the_past_is_compacted(etcd: Datastore, tmp_path: Path):
    with etcd, client(etcd) as source:
        fill(source, random.randrange(1 << 32))
        revision = source.revision()
        had = source.range(b"\x00", b"\x00")
        snapshot = save(etcd, tmp_path / "s.db")
    store = Datastore(Kind.KVSHIM, tmp_path / "kvshim")
    told = run_import(snapshot, f"--data-dir={store.data_dir}")
    assert f"begins at revision {revision + SKIPPED}" in told
    with store, client(store) as target:
        assert target.revision() == revision + SKIPPED
        assert list(target.range(b"\x00", b"\x00").kvs) == list(had.kvs)
        with pytest.raises(grpc.RpcError, match="compacted"):
            target.range(b"k", revision=revision)
        with target.watch_stream() as stream:
            stream.create(b"k", start_revision=revision)
            assert stream.next().compact_revision == revision + SKIPPED
        assert target.put(b"new").header.revision == revision + SKIPPED + 1
        # etcd sees the same gap as kvshim does.
        snapshot = save(store, tmp_path / "again.db")
    with restored(snapshot, tmp_path / "restored") as store, client(store) as target:
        assert target.revision() == revision + SKIPPED + 1
        assert list(target.range(b"\x00", b"\x00").kvs)[: len(had.kvs) - 1] == list(had.kvs)[:-1]


def test_a_store_that_etcdutl_raised(etcd: Datastore, tmp_path: Path):
    """Its restore marks the revision by an empty version, which is no key."""
    with etcd, client(etcd) as source:
        source.put(b"a", b"1")
        source.put(b"a", b"2")
        snapshot = save(etcd, tmp_path / "s.db")
    flags = ("--bump-revision=1000", "--mark-compacted")
    raised = restored(snapshot, tmp_path / "raised", flags)
    before = imported(tmp_path / "kvshim-1", raised.data_dir, KEEP)
    with raised, client(raised) as source:
        assert source.revision() == 1003
        had = source.range(b"\x00", b"\x00")
        source.put(b"b")
    behind = imported(tmp_path / "kvshim-2", raised.data_dir, KEEP)
    with before, client(before) as target:
        assert target.revision() == 1003
        assert list(target.range(b"\x00", b"\x00").kvs) == list(had.kvs)
    with behind, client(behind) as target:
        assert target.revision() == 1004
        assert target.range(b"\x00", b"\x00").count == 2


def test_a_data_directory(etcd: Datastore, tmp_path: Path):
    with etcd, client(etcd) as source:
        fill(source, random.randrange(1 << 32), changes=40)
        had = content(source)
        said = run_import(etcd.data_dir, f"--data-dir={tmp_path / 'no'}", code=1)
        assert "in use: stop etcd first" in said
    with imported(tmp_path / "kvshim", etcd.data_dir, KEEP) as store, client(store) as target:
        has = content(target)
    assert {at: has.pairs[at] for at in had.pairs} == had.pairs
    assert {at: has.hashes[at] for at in had.hashes} == had.hashes


def test_a_data_directory_that_lacks_acknowledged_writes_is_refused(
    etcd: Datastore, tmp_path: Path
):
    """etcd writes its store ten times a second, so after a crash the log knows more."""
    with etcd, client(etcd) as source:
        for number in range(200):
            source.put(b"%d" % number)
        etcd.kill()
        crashed = tmp_path / "crashed"
        shutil.copytree(etcd.data_dir, crashed)
        said = run_import(crashed, f"--data-dir={tmp_path / 'kvshim'}", code=1)
        assert "not stopped cleanly" in said
        etcd.start()
    with imported(tmp_path / "kvshim", etcd.data_dir) as store, client(store) as target:
        assert target.range(b"0", b":", count_only=True).count == 200


def test_a_bare_file_is_taken_only_if_one_insists(etcd: Datastore, tmp_path: Path):
    """Nothing tells whether all is in it that etcd had promised."""
    with etcd:
        etcd.etcdctl("put", "a", "1")
    target = tmp_path / "kvshim" / "data"
    bare = etcd.data_dir / "member" / "snap" / "db"
    said = run_import(bare, f"--data-dir={target}", code=1)
    assert "has no SHA-256 at its end" in said
    for log in (etcd.data_dir / "member" / "wal").glob("*.wal"):
        log.unlink()
    said = run_import(etcd.data_dir, f"--data-dir={target}", code=1)
    assert "there is no log in" in said
    told = run_import(bare, "--skip-hash-check", f"--data-dir={target}")
    assert "keys: 1, in 1 versions" in told


def test_users_come_with_it(etcd: Datastore, tmp_path: Path):
    with etcd:
        etcd.etcdctl("user", "add", "root", "--new-user-password=the secret")
        etcd.etcdctl("user", "grant-role", "root", "root")
        etcd.etcdctl("role", "add", "readers")
        etcd.etcdctl("role", "grant-permission", "readers", "read", "k", "--prefix=true")
        etcd.etcdctl("user", "add", "ann", "--new-user-password=a secret")
        etcd.etcdctl("user", "grant-role", "ann", "readers")
        etcd.etcdctl("put", "k1", "v1")
        etcd.etcdctl("auth", "enable")
        as_root = "--user=root:the secret"
        told = etcd.etcdctl(as_root, "role", "get", "readers").stdout
        url = f"--from-endpoint={etcd.client_url}"
        nowhere = f"--data-dir={tmp_path / 'no'}"
        assert "user name is empty" in run_import(url, nowhere, code=1)
        wrong = {"ETCDCTL_PASSWORD": "wrong"}
        assert "invalid user ID" in run_import(url, nowhere, "--user=root", code=1, environ=wrong)
        store = Datastore(Kind.KVSHIM, tmp_path / "kvshim")
        run_import(
            url,
            "--user=root",
            f"--data-dir={store.data_dir}",
            environ={"ETCDCTL_PASSWORD": "the secret"},
        )
    with store:
        assert store.etcdctl("get", "k1", check=False).returncode != 0
        assert store.etcdctl("--user=ann:a secret", "get", "k1").stdout == "k1\nv1\n"
        assert store.etcdctl("--user=ann:a secret", "put", "k1", "w", check=False).returncode != 0
        assert store.etcdctl(as_root, "role", "get", "readers").stdout == told


def test_a_server_over_mutual_tls(tmp_path: Path):
    certs = write_certs(tmp_path / "certs")
    target = tmp_path / "kvshim" / "data"
    with Datastore(Kind.ETCD, tmp_path / "etcd", tls=certs) as etcd:
        etcd.etcdctl("put", "a", "1")
        flags = [f"--from-endpoint={etcd.client_url}", f"--data-dir={target}"]
        run_import(*flags, code=1)  # nobody knows its CA
        flags.append(f"--cacert={certs.ca_cert}")
        run_import(*flags, code=1)  # and it knows no client without a certificate
        told = run_import(*flags, f"--cert={certs.client_cert}", f"--key={certs.client_key}")
    assert "keys: 1, in 1 versions" in told
    assert {file.name for file in target.iterdir()} == {"kv-1.db", "lock"}


def test_a_snapshot_that_was_damaged_is_refused(etcd: Datastore, tmp_path: Path):
    with etcd, client(etcd) as source:
        for number in range(100):
            source.put(b"%d" % number, b"v" * 100)
        snapshot = save(etcd, tmp_path / "s.db")
    data = bytearray(snapshot.read_bytes())
    assert status(snapshot)["totalKey"] == 100
    data[len(data) // 2] ^= 1
    snapshot.write_bytes(data)
    said = run_import(snapshot, f"--data-dir={tmp_path / 'kvshim'}", code=1)
    assert "its SHA-256 is not that at its end" in said
    assert not (tmp_path / "kvshim" / "kv-1.db").exists()


def test_other_members_join_what_was_imported(etcd: Datastore, tmp_path: Path):
    with etcd:
        etcd.etcdctl("put", "a", "1")
        snapshot = save(etcd, tmp_path / "s.db")
    store = imported(tmp_path / "first", snapshot)
    # Members that begin together would not all have the data.
    others = f"--initial-cluster=m1={store.peer_url},m2=http://127.0.0.1:1"
    done = subprocess.run(
        [*store.command(), others], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "begins with this member alone" in done.stderr
    with store:
        second = Datastore(Kind.KVSHIM, tmp_path / "second")
        cluster = f"m1={store.peer_url},m2={second.peer_url}"
        store.etcdctl("member", "add", "m2", f"--peer-urls={second.peer_url}", "--learner")
        second.extra_flags = (
            "--name=m2",
            f"--initial-cluster={cluster}",
            "--initial-cluster-state=existing",
        )
        with second:
            got = second.etcdctl("get", "a", "--consistency=s", check=False)
            assert got.stdout == "a\n1\n"


def test_an_import_that_was_cut_short_starts_no_node(etcd: Datastore, tmp_path: Path):
    with etcd:
        etcd.etcdctl("put", "a", "1")
        snapshot = save(etcd, tmp_path / "s.db")
    store = Datastore(Kind.KVSHIM, tmp_path / "kvshim")
    store.data_dir.mkdir(parents=True, mode=0o700)
    (store.data_dir / "lock").touch()
    (store.data_dir / "kv-import.db").write_bytes(b"half")
    done = subprocess.run(store.command(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "run kvshim import again" in done.stderr
    run_import(snapshot, f"--data-dir={store.data_dir}")
    with store:
        assert store.etcdctl("get", "a").stdout == "a\n1\n"
        said = run_import(snapshot, f"--data-dir={store.data_dir}", code=1)
    assert "is not empty: choose a new data directory" in said
