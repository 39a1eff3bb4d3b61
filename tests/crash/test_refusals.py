"""What kvshim must not touch or cannot use: one sentence, a non-zero exit, the data as it was."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from raft.interface import Index
from raft.storage import LogStorage
from tests.crash.support import WITHOUT_ROOT, Ended, contents, datastore, run_to_end
from tests.support.datastore import Datastore, Kind, running
from tests.support.grpc_client import EtcdClient


@pytest.fixture(autouse=True)
def _only_kvshim(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--datastore") != Kind.KVSHIM.value:
        pytest.skip("etcd has sentences of its own")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The data directory of a node that wrote something and was stopped."""
    directory = tmp_path_factory.mktemp("written")
    with running(Kind.KVSHIM, directory) as store:
        client = EtcdClient(store.target)
        for number in range(200):
            client.put(b"key-%d" % number, b"v" * 500)
        client.close()
    return contents(directory / "data")


@pytest.fixture
def store(tmp_path: Path, written: dict[str, bytes]) -> Datastore:
    """A stopped node with data."""
    store = datastore(tmp_path)
    data = tmp_path / "data"
    data.mkdir(0o700)
    for name, content in written.items():
        (data / name).write_bytes(content)
    return store


def test_a_second_process_on_the_same_directory(tmp_path: Path) -> None:
    with running(Kind.KVSHIM, tmp_path) as first:
        EtcdClient(first.target).put(b"key", b"value")
        second = datastore(tmp_path)

        ended = run_to_end(second)

        ended.assert_refused()
        assert "is in use by another kvshim process" in ended.sentence
        assert EtcdClient(first.target).range(b"key").kvs[0].value == b"value"


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_no_permission_for_the_directory(store: Datastore, mode: int) -> None:
    data = store.directory / "data"
    before = contents(data)
    data.chmod(mode)

    ended = run_to_end(store, WITHOUT_ROOT)

    data.chmod(0o700)
    ended.assert_refused()
    assert "ermission denied" in ended.sentence
    assert contents(data) == before


@pytest.mark.parametrize("name", ["raft.db", "kv-1.db"])
def test_no_permission_for_a_file(store: Datastore, name: str) -> None:
    data = store.directory / "data"
    before = contents(data)
    (data / name).chmod(0o000)

    ended = run_to_end(store, WITHOUT_ROOT)

    (data / name).chmod(0o600)
    ended.assert_refused()
    assert name in ended.sentence
    assert "ermission denied" in ended.sentence
    assert contents(data) == before


def test_no_permission_to_make_the_directory(tmp_path: Path) -> None:
    store = datastore(tmp_path / "closed")
    (tmp_path / "closed").chmod(0o500)

    ended = run_to_end(store, WITHOUT_ROOT)

    ended.assert_refused()
    assert "ermission denied" in ended.sentence
    assert not (tmp_path / "closed" / "data").exists()


@pytest.mark.parametrize("port", ["client_port", "metrics_port"])
def test_a_port_in_use(store: Datastore, port: str) -> None:
    before = contents(store.directory / "data")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        setattr(store, port, other.getsockname()[1])

        ended = run_to_end(store)

        ended.assert_refused()
        assert str(getattr(store, port)) in ended.sentence
        assert "in use" in ended.sentence
    assert contents(store.directory / "data").keys() == before.keys()


def test_a_directory_of_other_things(tmp_path: Path) -> None:
    store = datastore(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "diary.txt").write_text("dear diary")

    ended = run_to_end(store)

    ended.assert_refused()
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["diary.txt"]


def test_a_directory_of_etcd(tmp_path: Path) -> None:
    store = datastore(tmp_path)
    (tmp_path / "data" / "member" / "wal").mkdir(parents=True)

    ended = run_to_end(store)

    ended.assert_refused()
    assert "etcd" in ended.sentence
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["member"]


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    store = datastore(tmp_path)
    (tmp_path / "data").write_text("a file")

    run_to_end(store).assert_refused()

    assert (tmp_path / "data").read_text() == "a file"


def flip(offset: int) -> Callable[[Path], None]:
    """Damage some bytes."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        for place in range(offset, offset + 16):
            content[place] ^= 0xFF
        path.write_bytes(content)

    return damage


def statement(sql: str) -> Callable[[Path], None]:
    """Change something in the database as an outsider would."""

    def change(path: Path) -> None:
        db = sqlite3.connect(path)
        db.execute(sql)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()

    return change


def cut_short(path: Path) -> None:
    """Lose the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def replace_by_text(path: Path) -> None:
    """No database at all."""
    path.write_text("not a database\n" * 500)


def replace_by_foreign_database(path: Path) -> None:
    """Somebody else's database."""
    path.unlink()
    statement("CREATE TABLE people(name TEXT)")(path)


def refused_untouched(store: Datastore) -> Ended:
    """Run it, and see that it left every database as it was."""
    before = contents(store.directory / "data")
    ended = run_to_end(store)
    ended.assert_refused()
    after = contents(store.directory / "data")
    assert {name: after.get(name) for name in before} == before
    assert all(not content for name, content in after.items() if name not in before)
    return ended


@pytest.mark.parametrize("name", ["raft.db", "kv-1.db"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip(0), id="magic"),
        pytest.param(flip(100), id="schema page"),
        pytest.param(cut_short, id="cut short"),
        pytest.param(replace_by_text, id="text"),
        pytest.param(replace_by_foreign_database, id="foreign database"),
        pytest.param(statement("PRAGMA user_version = 99"), id="newer format"),
    ],
)
def test_a_damaged_or_foreign_database(
    store: Datastore, name: str, damage: Callable[[Path], None]
) -> None:
    damage(store.directory / "data" / name)

    assert name in refused_untouched(store).sentence


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("UPDATE entries SET data = x'00' WHERE idx = 100", id="changed entry"),
        pytest.param("DELETE FROM entries WHERE idx = 100", id="missing entry"),
        pytest.param("DELETE FROM entries WHERE idx > 150", id="log older than store"),
        pytest.param("UPDATE state SET term = 1000", id="changed state"),
    ],
)
def test_a_log_that_does_not_hold_together(store: Datastore, sql: str) -> None:
    statement(sql)(store.directory / "data" / "raft.db")

    assert "raft.db" in refused_untouched(store).sentence


def test_a_store_that_is_gone_while_its_log_was_cut(store: Datastore) -> None:
    """An empty kv.db and a log that does not begin at 1 cannot give the data back."""
    data = store.directory / "data"
    (data / "kv-1.db").unlink()
    log = LogStorage.open(data / "raft.db")
    log.cut(Index(50))
    log.close()
    before = (data / "raft.db").read_bytes()

    ended = run_to_end(store)

    ended.assert_refused()
    assert "begins at entry 51" in ended.sentence
    assert (data / "raft.db").read_bytes() == before


def test_a_lost_store_comes_back_from_a_whole_log(store: Datastore) -> None:
    (store.directory / "data" / "kv-1.db").unlink()
    store.start()
    try:
        client = EtcdClient(store.target)
        assert client.list_prefix(b"key-", count_only=True).count == 200
        client.close()
    finally:
        store.stop()
