"""Roles in a cluster formed by joining: real processes, one of which dies for good."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvshim.pb.etcd import rpc_pb2
from tests.cluster.joined import Node, command, failing, grow, until
from tests.support.grpc_client import EtcdClient, WatchStream

SOON = ("--replace-after", "3s")
NodeMaker = Callable[..., Node]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeMaker]:
    """Makes nodes that soon replace what is lost."""
    made: list[Node] = []

    def make(name: str, *flags: str) -> Node:
        made.append(Node(tmp_path, name, *SOON, *flags))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def first(make: NodeMaker, name: str = "a", *flags: str) -> Node:
    """A cluster of one."""
    found = make(name, *flags)
    found.start()
    until(lambda: found.voters() == 1, "the first node does not come up")
    return found


def put(node: Node, key: bytes, value: bytes) -> int:
    response = node.ask("KV/Put", rpc_pb2.PutRequest(key=key, value=value), rpc_pb2.PutResponse)
    return int(response.header.revision)


def get(node: Node, key: bytes, *, serializable: bool = False) -> bytes:
    request = rpc_pb2.RangeRequest(key=key, serializable=serializable)
    found = node.ask("KV/Range", request, rpc_pb2.RangeResponse).kvs
    return bytes(found[0].value) if found else b""


def served_by(node: Node) -> int:
    """The member that answers the clients of a node."""
    status = node.ask("Maintenance/Status", rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse)
    return int(status.header.member_id)


def own_id(node: Node, asked: Node) -> int:
    return next(int(str(m["id"]), 16) for m in asked.status() if m["name"] == node.name)


class Counted:
    """Looks all the time how many vote, so that no even number passes unseen."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = threading.Event()
        self.seen: set[int] = set()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._stop.wait(0.3):
            self.seen.add(self._node.voters())

    def __enter__(self) -> Counted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)


def test_six_nodes_are_three_voters_two_standbys_and_a_spare_and_all_serve(node: NodeMaker) -> None:
    a = first(node)
    b, c, d, e, f = (node(name) for name in "bcdef")
    grow(a, [b])
    assert a.roles() == {"voter": 1, "standby": 1}
    until(lambda: b.roles() == a.roles(), "the standby does not come up")
    until(lambda: served_by(b) == own_id(b, a), "the standby does not serve by itself")
    assert put(b, b"by a standby", b"1") > 1
    assert get(b, b"by a standby") == b"1"
    grow(a, [c])
    assert a.roles() == {"voter": 3}
    grow(a, [d])
    assert a.roles() == {"voter": 3, "standby": 1}
    grow(a, [e, f])
    assert a.having("spare") == {"f"}
    assert sum(member.isLearner for member in a.members()) == 3

    until(lambda: served_by(f) != own_id(f, a), "nobody serves the clients of the spare")
    put(a, b"key", b"one")
    assert get(f, b"key") == b"one"
    client = EtcdClient(f"127.0.0.1:{f.client}")
    watch = WatchStream(client.channel)
    watch.create(b"key")
    revision = put(f, b"key", b"two")
    assert get(a, b"key") == b"two"
    event = watch.events(1)[0]
    assert (event.kv.value, event.kv.mod_revision) == (b"two", revision)
    watch.close()
    client.close()
    lease = f.ask("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=60), rpc_pb2.LeaseGrantResponse)
    assert lease.TTL == 60
    base = f"http://127.0.0.1:{f.client}"
    with urllib.request.urlopen(f"{base}/version", timeout=10) as answer:
        assert "etcdserver" in json.load(answer)
    monitoring = f"http://127.0.0.1:{f.metrics}"
    with urllib.request.urlopen(f"{monitoring}/readyz", timeout=10) as answer:
        assert answer.status == 200
    shown = command("status", "--data-dir", str(f.data))
    assert "led by a" in shown
    assert "spare" in shown
    assert "ask a voter" in failing("add-node", "--data-dir", str(f.data))


def test_a_voter_lost_for_good_is_replaced_and_comes_back_as_a_spare(node: NodeMaker) -> None:
    a = first(node)
    others = {name: node(name) for name in "bcdef"}
    grow(a, list(others.values()))
    put(a, b"key", b"one")
    (spare,) = a.having("spare")
    lost = others[min(a.having("voter") - {"a"})]
    number = own_id(others[spare], a)

    with Counted(a) as counted:
        lost.kill()
        until(lambda: lost.name in a.having("spare"), "the lost voter is not replaced")
        assert a.having("spare") == {lost.name}
        assert a.roles() == {"voter": 3, "standby": 2, "spare": 1}
        assert spare in a.having("standby"), "the spare got no data"
        until(lambda: served_by(others[spare]) == number, "the spare does not serve by itself")
        assert get(others[spare], b"key", serializable=True) == b"one"
        put(a, b"key", b"two")

        lost.start()
        until(lambda: get(lost, b"key") == b"two", "it serves nobody")
        assert a.roles() == {"voter": 3, "standby": 2, "spare": 1}
        assert served_by(lost) != own_id(lost, a)
    assert counted.seen <= {2, 3}, "one change at a time, and even only in between"

    a.kill()  # a voter by hand, and the leader: the others go on, and find the spare
    b = next(each for each in others.values() if each is not lost)
    until(lambda: put(b, b"key", b"three"), "nobody takes over")
    until(lambda: get(lost, b"key") == b"three", "the spare found no other member")
    until(
        lambda: any(m["name"] == lost.name and m["reached"] for m in b.status()),
        "the new leader does not know that the spare is there",
    )


def test_a_spare_starts_again_moves_and_is_removed(node: NodeMaker) -> None:
    a = first(node, "a", "--voters", "1", "--standbys", "0")
    b = node("b", "--voters", "5")  # the cluster's numbers were said by the first node
    until(lambda: "1 voters, 0 standbys" in command("roles", "--data-dir", str(a.data)), "unsaid")
    b.join(a.line_for_another())
    until(lambda: a.having("spare") == {"b"}, "it is no spare")
    put(a, b"key", b"one")
    until(lambda: get(b, b"key") == b"one", "it serves nobody")

    b.kill()
    b.flags = (*SOON, "--failure-domain", "rack-2")
    b.start()
    until(lambda: get(b, b"key") == b"one", "after a start it serves nobody")
    until(
        lambda: [m["failure_domain"] for m in a.status() if m["name"] == "b"] == ["rack-2"],
        "the others do not learn where it is",
    )
    assert "must be odd" in failing("roles", "--voters", "2", "--data-dir", str(a.data))
    assert "1 voters, 1 standbys" in command("roles", "--standbys", "1", "--data-dir", str(a.data))
    until(lambda: a.having("standby") == {"b"}, "the spare becomes no standby")
    command("roles", "--standbys", "0", "--data-dir", str(b.data))
    until(lambda: a.having("spare") == {"b"}, "the standby becomes no spare")
    until(lambda: get(b, b"key") == b"one", "once a spare again, it serves nobody")
    command("remove-node", "b", "--data-dir", str(a.data))
    assert a.names() == {"a"}


def test_voters_are_spread_over_racks(node: NodeMaker) -> None:
    a = first(node, "a", "--failure-domain", "x")
    racks = {"b": "x", "c": "x", "d": "y", "e": "y", "f": "z"}
    grow(a, [node(name, "--failure-domain", rack) for name, rack in racks.items()])

    def spread() -> bool:
        voters = [m["failure_domain"] for m in a.status() if m["role"] == "voter"]
        return sorted(voters) == ["x", "y", "z"]

    until(spread, "the voters share a rack")
    settled = {"voter": 3, "standby": 2, "spare": 1}
    until(lambda: a.roles() == settled, "the copy that is one too many stays")
    assert spread()
