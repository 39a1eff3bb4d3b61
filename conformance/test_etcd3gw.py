"""etcd3gw, a client that knows the JSON gateway alone, on the datastore on trial.

`--datastore=etcd` shows that the story is right.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import WatchTimedOut

from conformance.servers import Datastore, Kind


@pytest.fixture(params=[Kind.KVSHIM, Kind.ETCD], ids=lambda kind: kind.value)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Etcd3Client]:
    with Datastore(request.param, tmp_path / "datastore") as datastore:
        host, port = datastore.endpoint.split(":")
        yield Etcd3Client(host=host, port=int(port), api_path="/v3/", timeout=20)


def test_keys_and_transactions(client: Etcd3Client):
    assert client.put("ka", "1")
    assert client.put("kb", "2")
    assert client.get("ka") == [b"1"]
    assert [value for value, _ in client.get_prefix("k", sort_order="descend")] == [b"2", b"1"]
    assert client.create("c", "3")
    assert not client.create("c", "4")
    assert client.replace("c", "3", "5")
    assert not client.replace("c", "3", "6")
    assert client.get("c") == [b"5"]
    assert client.delete("c")
    assert not client.delete("c")
    assert client.delete_prefix("k")
    assert client.get_all() == []


def test_leases_and_locks(client: Etcd3Client):
    lease = client.lease(ttl=60)
    assert client.put("a", "1", lease=lease)
    assert lease.keys() == [b"a"]
    assert lease.refresh() == 60
    assert 0 < lease.ttl() <= 60
    assert lease.revoke()
    assert client.get("a") == []
    with client.lock("mine", ttl=30) as lock:
        assert lock.is_acquired()
        assert not client.lock("mine", ttl=30).acquire()
    assert client.lock("mine", ttl=30).acquire()


def test_watches(client: Etcd3Client):
    assert client.put("a", "1")
    events, cancel = client.watch("a", start_revision=1)
    try:
        assert next(events)["kv"]["value"] == b"1"
        client.put("a", "2")
        client.delete("a")
        assert next(events)["kv"]["value"] == b"2"
        assert next(events)["type"] == "DELETE"
    finally:
        cancel()
    with pytest.raises(WatchTimedOut):
        client.watch_once("nobody", timeout=1)


def test_what_the_server_says_of_itself(client: Etcd3Client):
    assert client.status()["version"].startswith("3.")
    [member] = client.members()
    assert member["clientURLs"]
