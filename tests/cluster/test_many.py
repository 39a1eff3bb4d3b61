"""Many nodes: each joins by the printed line, roles settle, all serve, and idling costs little.

`make many` runs it with thirty nodes; by default there are nine. `KVSHIM_MANY` is the number.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import mean

import pytest

from kvshim.pb.etcd import rpc_pb2
from tests.cluster.joined import Node, grow, until

COUNT = int(os.environ.get("KVSHIM_MANY", "9"))
IDLE_SECONDS = 10.0
SPARE_SHARE_MAX = 0.05
"""Of a core, for a node that does nothing; a busy machine blurs it little, since it is CPU time."""
TICKS = os.sysconf("SC_CLK_TCK")

pytestmark = pytest.mark.timeout(120 + 30 * COUNT)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    with ExitStack() as ends:
        made = []
        for number in range(COUNT):
            rack = f"rack-{number % 3}"
            node = Node(tmp_path, f"n{number}", "--failure-domain", rack, "--replace-after", "5s")
            ends.callback(node.kill)
            made.append(node)
        yield made


def cpu_seconds(node: Node) -> float:
    assert node.process is not None
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(node: Node) -> float:
    assert node.process is not None
    pages = int(Path(f"/proc/{node.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def missing(node: Node) -> list[tuple[str, str]]:
    """Name and role of whoever the leader does not reach."""
    return [(str(m["name"]), str(m["role"])) for m in node.status() if not m["reached"]]


def put(node: Node, value: bytes) -> None:
    node.ask("KV/Put", rpc_pb2.PutRequest(key=b"key", value=value), rpc_pb2.PutResponse)


def get(node: Node) -> bytes:
    found = node.ask("KV/Range", rpc_pb2.RangeRequest(key=b"key"), rpc_pb2.RangeResponse)
    return bytes(found.kvs[0].value)


def idle_costs(nodes: list[Node]) -> dict[str, list[float]]:
    """Shares of a core by role, and what is printed of them."""
    roles = {str(m["name"]): "leader" if m["leads"] else str(m["role"]) for m in nodes[0].status()}
    before = {node.name: cpu_seconds(node) for node in nodes}
    time.sleep(IDLE_SECONDS)
    shares: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, list[float]] = defaultdict(list)
    for node in nodes:
        role = roles[node.name]
        shares[role].append((cpu_seconds(node) - before[node.name]) / IDLE_SECONDS)
        sizes[role].append(rss_mib(node))
    print(f"\n{COUNT} nodes, {IDLE_SECONDS:g} s idle")
    for role, found in shares.items():
        print(
            f"{len(found):3} {role:8} {100 * mean(found):5.2f} % of a core, "
            f"{mean(sizes[role]):5.1f} MiB each"
        )
    print(f"all: {100 * sum(map(sum, shares.values())):.1f} % of a core")
    return shares


def test_many_nodes_join_serve_and_replace_what_is_lost(nodes: list[Node]) -> None:
    first, *others = nodes
    first.start()
    until(lambda: first.voters() == 1, "the first node does not come up")
    began = time.monotonic()
    grow(first, others)
    print(f"\n{COUNT} nodes after {time.monotonic() - began:.0f} s")
    until(lambda: missing(first) == [], lambda: f"not reached: {missing(first)}")
    voters = [m["failure_domain"] for m in first.status() if m["role"] == "voter"]
    assert len(set(voters)) == 3

    put(first, b"0")
    for number, node in enumerate(others, start=1):
        until(lambda node=node: get(node), f"{node.name} serves nobody")  # type: ignore[misc]
        put(node, b"%d" % number)
        assert get(first) == b"%d" % number

    shares = idle_costs(nodes)
    assert mean(shares["spare"]) < SPARE_SHARE_MAX

    lost = next(node for node in others if node.name in first.having("voter"))
    lost.kill()
    until(
        lambda: lost.name in first.having("spare") and first.roles()["standby"] == 2,
        "the lost voter is not replaced",
    )
    assert first.roles() == {"voter": 3, "standby": 2, "spare": COUNT - 5}
