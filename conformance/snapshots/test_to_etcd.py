"""A snapshot of kvshim, restored by etcdutl: etcd goes on where kvshim was."""

import random
from pathlib import Path

import pytest

from conformance.servers import Datastore, Kind
from conformance.snapshots.content import content, fill
from conformance.snapshots.files import client, restored, save, status

PASSWORD = "the secret"
AS_ROOT = f"--user=root:{PASSWORD}"


def test_etcd_serves_what_kvshim_had(datastore_kind: Kind, tmp_path: Path):
    with Datastore(datastore_kind, tmp_path / "source") as source, client(source) as etcd:
        fill(etcd, random.randrange(1 << 32))
        had = content(etcd)
        snapshot = save(source, tmp_path / "s.db")
        # What is written behind it is not in it.
        etcd.put(b"later")
        told = status(snapshot)
    assert told["revision"] == had.revision + 2  # `content` made two more
    with restored(snapshot, tmp_path / "restored") as store, client(store) as etcd:
        assert etcd.revision() == had.revision + 2
        assert not etcd.range(b"later").kvs
        has = content(etcd)
    assert has.first_readable == had.first_readable > 1
    assert {at: has.pairs[at] for at in had.pairs} == had.pairs
    assert has.events[: len(had.events)] == had.events
    assert has.leases == had.leases
    assert any(keys for _, keys in had.leases.values())
    assert {at: has.hashes[at] for at in had.hashes} == had.hashes


def test_an_empty_store(datastore_kind: Kind, tmp_path: Path):
    with Datastore(datastore_kind, tmp_path / "source") as source:
        snapshot = save(source, tmp_path / "s.db")
    assert status(snapshot)["totalKey"] == 0
    with restored(snapshot, tmp_path / "restored") as store, client(store) as etcd:
        assert etcd.revision() == 1
        assert etcd.put(b"first").header.revision == 2


def test_what_is_left_is_only_a_revision(datastore_kind: Kind, tmp_path: Path):
    """All keys are deleted and compacted away: no version is left that would tell the revision."""
    with Datastore(datastore_kind, tmp_path / "source") as source, client(source) as etcd:
        for number in range(10):
            etcd.put(b"k%d" % number)
        etcd.delete(b"k", b"l")
        etcd.put(b"last")
        etcd.delete(b"last")
        etcd.compact(etcd.revision(), physical=True)
        snapshot = save(source, tmp_path / "s.db")
    with restored(snapshot, tmp_path / "restored") as store, client(store) as etcd:
        assert etcd.revision() == 14
        assert etcd.put(b"next").header.revision == 15


@pytest.fixture
def _locked(datastore: Datastore) -> None:
    """Users, roles, and authentication switched on."""
    for command in (
        f"user add root --new-user-password={PASSWORD.replace(' ', '~')}",
        "user grant-role root root",
        "role add readers",
        "role grant-permission readers read k --prefix=true",
        "user add ann --new-user-password=a~secret",
        "user grant-role ann readers",
        "user add by-certificate --no-password=true",
        "put k1 v1",
        "auth enable",
    ):
        datastore.etcdctl(*(word.replace("~", " ") for word in command.split()))


@pytest.mark.usefixtures("_locked")
def test_users_come_with_it(datastore: Datastore, tmp_path: Path):
    refused = datastore.etcdctl("snapshot", "save", str(tmp_path / "no.db"), check=False)
    assert refused.returncode != 0
    by_ann = "--user=ann:a secret"
    refused = datastore.etcdctl(by_ann, "snapshot", "save", str(tmp_path / "no.db"), check=False)
    assert "permission denied" in refused.stderr
    snapshot = save(datastore, tmp_path / "s.db", AS_ROOT)
    with restored(snapshot, tmp_path / "restored") as store:
        assert store.etcdctl("get", "k1", check=False).returncode != 0
        assert store.etcdctl(by_ann, "get", "k1").stdout == "k1\nv1\n"
        assert "permission denied" in store.etcdctl(by_ann, "put", "k1", "w", check=False).stderr
        assert store.etcdctl("--user=ann:wrong", "get", "k1", check=False).returncode != 0
        for asked in (
            ("user", "list"),
            ("user", "get", "ann", "--detail"),
            ("user", "get", "by-certificate"),
            ("role", "list"),
            ("role", "get", "readers"),
        ):
            told = datastore.etcdctl(AS_ROOT, *asked).stdout
            assert told
            assert store.etcdctl(AS_ROOT, *asked).stdout == told
        assert _auth_revision(store) == _auth_revision(datastore)


def _auth_revision(store: Datastore) -> int:
    return int(store.etcdctl_json(AS_ROOT, "auth", "status")["authRevision"])
