"""The ids of a cluster that begins: etcd's where flags name the members, random without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.backend.backend import Backend
from kvshim.backend.datadir import DataDir
from kvshim.config import Config, Loaded, load
from kvshim.errors import StartupError
from kvshim.logs import open_logger
from kvshim.mvcc.store import Store
from kvshim.node.draft import make_data
from kvshim.node.forming import Formation, form
from kvshim.node.storage import Storage
from kvshim.pki.files import Pki
from kvshim.server.joining import Joined

FLAGS = ("--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:2380")
ALONE = "--initial-cluster=a=http://10.0.0.1:2380"
THREE = f"{ALONE},b=http://10.0.0.2:2380,c=http://10.0.0.3:2380"


async def begin(path: Path, *flags: str) -> Formation:
    loaded = load(("--data-dir", str(path), *FLAGS, *flags), {})
    assert isinstance(loaded, Loaded)
    config: Config = loaded.config
    directory = DataDir.open(path)
    try:
        storage = Storage.open(directory, config)
        try:
            return await form(storage, config, path, open_logger(config.log))
        finally:
            storage.store.close()
            storage.log.close()
    finally:
        directory.close()


async def test_two_nodes_without_flags_are_two_clusters(tmp_path: Path) -> None:
    one = await begin(tmp_path / "one")
    other = await begin(tmp_path / "other")
    assert one.cluster_id != other.cluster_id
    assert await begin(tmp_path / "one") == one  # and it stays so


async def test_flags_give_the_same_ids_on_every_member(tmp_path: Path) -> None:
    a = await begin(tmp_path / "a", THREE)
    again = await begin(tmp_path / "again", THREE)
    assert (a.cluster_id, a.member_id) == (again.cluster_id, again.member_id)
    alone = [await begin(tmp_path / name, ALONE) for name in ("alone", "also-alone")]
    assert alone[0] == alone[1]
    assert alone[0].cluster_id != a.cluster_id


def fill(store: Store, _room: Path) -> None:
    with store.write() as batch:
        batch.skip(1000)


async def test_imported_data_begins_a_cluster_of_one(tmp_path: Path) -> None:
    path = tmp_path / "imported"
    make_data(path, fill)
    for flags in ((THREE,), (THREE, "--initial-cluster-state=existing")):
        with pytest.raises(StartupError, match="begins with this member alone"):
            await begin(path, *flags)
    begun = await begin(path, ALONE)
    assert begun == await begin(path, THREE)  # what is on disk counts
    store = Store(Backend.open(path / "kv-1.db"))
    assert (store.revision, store.applied_index) == (1001, 1)
    store.close()


async def test_imported_data_joins_nobody(tmp_path: Path) -> None:
    make_data(tmp_path, fill)
    Pki.of(tmp_path).found(7, 8, ["10.0.0.1"], 0.0)
    Joined(7, 8, "a", ("http://10.0.0.1:2380",), (), ()).save(tmp_path)
    with pytest.raises(StartupError, match="begins with this member alone"):
        await begin(tmp_path)
