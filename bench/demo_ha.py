"""The command `python -m bench.demo_ha`, which `make demo-ha` calls: a cluster loses its leader.

Three nodes form by `kvshim add-node` and `kvshim join`, writes go on without a pause, the leader is
killed and comes back. `kvshim status` before, between and after; the gap that the writers saw.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench.ha_probe import Probe
from bench.nodes import Nodes, kvshim
from tests.cluster.cluster import wait_for
from tests.cluster.member import Member
from tests.support.datastore import StartError

WRITES = 100
SECONDS_MAX = 40.0


def show(title: str, at: Member) -> None:
    """`kvshim status` as it is, asked at one node."""
    print(f"\n$ kvshim status   # {title}\n{kvshim('status', at.data_dir)}")


def form(nodes: Nodes) -> None:
    """One node, then one command each for two more."""
    began = time.monotonic()
    first = nodes.found()
    print(f"$ kvshim   # node {first.name} runs")
    for _ in range(2):
        joined = nodes.add(first)
        nodes.wait_joined(joined)
        print(f"$ kvshim add-node   # on {first.name}; prints the next line, with the token")
        print(f"$ kvshim join 127.0.0.1:{first.peer_port}#...   # on {joined.name}")
    nodes.wait_voters(3)
    print(f"Three nodes vote, {time.monotonic() - began:.1f} s after the first command.")


def demonstrate(nodes: Nodes) -> None:
    """Form, load, kill, bring back."""
    form(nodes)
    leader = nodes.wait_leader()
    others = [member for member in nodes.members if member is not leader]
    with Probe([member.target for member in others]) as probe:
        probe.wait(WRITES, time.monotonic(), SECONDS_MAX)
        show("before", leader)
        print(f"200 writes a second go to {' and '.join(m.name for m in others)}.")
        killed = time.monotonic()
        leader.kill()
        probe.wait(WRITES, time.monotonic(), SECONDS_MAX)
        gap = probe.longest_gap(killed, time.monotonic())
        successor = nodes.wait_leader(other_than=leader)
        print(f"SIGKILL to {leader.name}: writes stood still for {1000 * gap:.0f} ms.")
        show(f"without {leader.name}", successor)
        back = time.monotonic()
        leader.start("")
        wait_for(leader.status, SECONDS_MAX, nodes.tails)
        probe.wait(WRITES, time.monotonic(), SECONDS_MAX)
        gap = probe.longest_gap(back, time.monotonic())
        print(f"{leader.name} is back; longest gap between writes meanwhile {1000 * gap:.0f} ms.")
    wait_for(lambda: equal(nodes), SECONDS_MAX, nodes.tails)
    show("after", successor)
    print("The stores of all three are at the same revision.")


def equal(nodes: Nodes) -> bool | None:
    """Whether all are at one revision; nobody writes any more."""
    found = [status.header.revision if (status := m.status()) else 0 for m in nodes.members]
    return True if 0 not in found and len(set(found)) == 1 else None


def main() -> int:
    """Runs in a directory of its own, which stays if something fails."""
    directory = Path(tempfile.mkdtemp(prefix="kvshim-demo-"))
    try:
        with Nodes(directory) as nodes:
            demonstrate(nodes)
    except (AssertionError, StartError) as failure:
        print(f"demo-ha: {failure}; logs are in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
