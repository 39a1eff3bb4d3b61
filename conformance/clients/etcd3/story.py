"""python-etcd3 at work: `story.py HOST PORT`, on an empty store, in an environment of its own.

Its generated messages need a protobuf far older than ours. Prints a line for each chapter that went
as its documentation says, and stops at the first that did not.
"""

import io
import os
import sys
import threading

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import etcd3
from etcd3 import exceptions

SECONDS = 20
SNAPSHOT_BYTES_MIN = 16 * 1024


def keys(client):
    client.put("k/a", "1")
    client.put("k/b", "2")
    value, about = client.get("k/a")
    assert (value, about.version, about.key) == (b"1", 1, b"k/a")
    assert [v for v, _ in client.get_prefix("k/", sort_order="descend")] == [b"2", b"1"]
    assert len(list(client.get_range("k/a", "k/b"))) == 1
    assert client.replace("k/a", "1", "3")
    assert not client.replace("k/a", "1", "4")
    assert client.put_if_not_exists("k/c", "5")
    assert not client.put_if_not_exists("k/c", "6")
    assert client.delete("k/c")
    assert not client.delete("k/c")
    assert client.delete_prefix("k/").deleted == 2
    assert client.get("k/a") == (None, None)


def transactions(client):
    compare, do = client.transactions.value, client.transactions
    client.put("t/a", "1")
    for expected in (True, False):
        succeeded, answers = client.transaction(
            compare=[compare("t/a") == "1", do.version("t/a") > 0, do.create("t/none") == 0],
            success=[do.put("t/a", "2"), do.get("t/a")],
            failure=[do.get("t/a"), do.delete("t/a")],
        )
        assert succeeded is expected
    assert answers[0][0][0] == b"2"
    assert client.get("t/a")[0] is None


def leases(client):
    lease = client.lease(60)
    client.put("l/a", "1", lease=lease)
    assert lease.granted_ttl == 60
    assert 0 < lease.remaining_ttl <= 60
    assert list(lease.keys) == [b"l/a"]
    [answer] = lease.refresh()
    assert answer.TTL == 60
    lease.revoke()
    assert client.get("l/a")[0] is None
    assert client.get_lease_info(lease.id).TTL == -1


def watches(client):
    events, cancel = client.watch_prefix("w/")
    seen, called = [], threading.Event()
    other = client.add_watch_callback("w/b", lambda answer: called.set())
    client.put("w/a", "1")
    client.put("w/b", "2")
    client.delete("w/a")
    for event in events:
        seen.append((type(event).__name__, event.key))
        if len(seen) == 3:
            cancel()
    assert seen == [("PutEvent", b"w/a"), ("PutEvent", b"w/b"), ("DeleteEvent", b"w/a")]
    assert called.wait(SECONDS)
    client.cancel_watch(other)
    try:
        client.watch_once("w/none", timeout=0.2)
    except exceptions.WatchTimedOut:
        pass
    else:
        raise AssertionError("nothing happened, and it was told")
    first = client.get("w/b")[1].mod_revision
    history, cancel = client.watch("w/b", start_revision=first)
    assert next(history).value == b"2"
    cancel()


def locks(client):
    """Three threads count by reading and writing; only the lock makes that right."""
    client.put("counter", "0")

    def count():
        for _ in range(5):
            with client.lock("counting", ttl=30):
                client.put("counter", str(int(client.get("counter")[0]) + 1))

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert client.get("counter")[0] == b"15"
    with client.lock("held", ttl=30) as lock:
        assert lock.is_acquired()
        assert not client.lock("held", ttl=30).acquire(timeout=0.5)
    assert client.lock("held", ttl=30).acquire(timeout=SECONDS)


def maintenance(client):
    [member] = client.members
    assert list(member.client_urls)
    status = client.status()
    assert status.leader.id == member.id
    assert status.db_size > 0
    assert list(client.list_alarms()) == []
    client.defragment()
    assert client.hash() != 0
    urls = list(member.peer_urls)
    member.update(["http://127.0.0.1:17"])
    member.update(urls)
    assert [list(each.peer_urls) for each in client.members] == [urls]
    saved = io.BytesIO()
    client.snapshot(saved)
    assert len(saved.getvalue()) > SNAPSHOT_BYTES_MIN
    client.put("c", "1")
    revision = client.get("c")[1].mod_revision
    client.put("c", "2")
    client.compact(revision + 1)


def main():
    client = etcd3.client(host=sys.argv[1], port=int(sys.argv[2]), timeout=SECONDS)
    for chapter in (keys, transactions, leases, watches, locks, maintenance):
        chapter(client)
        print(chapter.__name__, flush=True)
    client.close()


if __name__ == "__main__":
    main()
