"""Nodes that join by one command: three real processes, certificates and roles by themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvshim.pb.etcd import rpc_pb2
from tests.cluster.joined import Node, command, failing, until


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    made = [Node(tmp_path, name) for name in ("one", "two", "three", "four")]
    yield made
    for node in made:
        node.kill()


def test_three_nodes_form_a_cluster_that_outlives_the_first(nodes: list[Node]) -> None:
    one, two, three, four = nodes
    one.start()
    until(lambda: one.voters() == 1, "the first node does not come up")
    one.ask("KV/Put", rpc_pb2.PutRequest(key=b"a", value=b"b"), rpc_pb2.PutResponse)

    two.join(one.line_for_another())
    until(lambda: "two" in one.names(), "the second node does not join")
    assert one.voters() == 1, "two voters would be worse than one"
    three.join(one.line_for_another())
    until(lambda: one.voters() == 3, "the joined nodes get no votes")
    range_request = rpc_pb2.RangeRequest(key=b"a")
    assert three.ask("KV/Range", range_request, rpc_pb2.RangeResponse).kvs[0].value == b"b"
    key = two.data / "pki" / "ca.key"
    until(key.exists, "the CA's key is on one node only")
    for secret in ("ca.key", "node.pem"):
        assert (two.data / "pki" / secret).stat().st_mode & 0o777 == 0o600

    for node in (one, two):  # the leader, and one that asks it
        shown = json.loads(command("status", "--data-dir", str(node.data), "-o", "json"))
        assert [m["name"] for m in shown["members"] if m["leads"]] == ["one"]
        assert {m["role"] for m in shown["members"]} == {"voter"}
        assert all(m["reached"] and m["lag_entries"] < 10 for m in shown["members"])
        assert shown["quorum"]["failures_tolerated"] == 1
    assert "1 may fail" in command("status", "--data-dir", str(three.data))

    one.kill()
    put = rpc_pb2.PutRequest(key=b"c", value=b"d")
    until(lambda: two.ask("KV/Put", put, rpc_pb2.PutResponse), "nobody takes over")
    gone = next(member for member in two.members() if member.name == "one")
    command("remove-node", f"{gone.ID:x}", "--data-dir", str(two.data))
    four.join(command("add-node", "--data-dir", str(two.data)))  # it listens since it joined
    until(
        lambda: "four" in two.names() and two.voters() == 3, "no node takes the place of the first"
    )


def test_the_printed_line_is_all_that_a_node_needs(nodes: list[Node]) -> None:
    one, *_ = nodes
    one.start()
    until(lambda: one.voters() == 1, "the first node does not come up")
    line = one.line_for_another()
    assert re.fullmatch(rf"kvshim join 127\.0\.0\.1:{one.peer}#\S+", line.strip())
    again = command("add-node", "--data-dir", str(one.data))
    assert again.split("#")[0] == line.split("#")[0]
    elsewhere = ("--address", f"127.0.0.1:{nodes[1].peer}")
    assert "leave --address out" in failing("add-node", "--data-dir", str(one.data), *elsewhere)


def test_a_taken_port_is_said_and_another_can_be_given(nodes: list[Node]) -> None:
    one, *_ = nodes
    one.start()
    until(lambda: one.voters() == 1, "the first node does not come up")
    taken = ("--address", f"127.0.0.1:{one.client}")
    said = failing("add-node", "--data-dir", str(one.data), *taken)
    assert "in use" in said
    assert "--address" in said
    assert "HOST:PORT" in failing("add-node", "--data-dir", str(one.data), "--address", "a:b:c")
    assert one.line_for_another()
