"""The command `python -m bench.demo_ha`, which `make demo-ha` calls: a cluster loses its leader.

Three members form, writes go on without a pause, the leader is killed and comes back; what every
member says of itself is shown before, between and after, and the gap that the writers saw.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.ha_probe import Probe
from tests.cluster.cluster import Cluster
from tests.support.datastore import StartError

WRITES = 100
WRITE_SECONDS_MAX = 30.0


def show(cluster: Cluster, console: Console, title: str) -> None:
    """What each member answers to a status call."""
    table = Table(title=title, title_justify="left")
    for column in ("member", "client URL", "role", "term", "applied", "revision"):
        table.add_column(column, justify="left" if column in {"member", "role"} else "right")
    for member in cluster.members:
        status = member.status()
        if status is None:
            table.add_row(member.name, member.client_url, "[red]down[/]", "", "", "")
            continue
        role = "leader" if status.leader == status.header.member_id else "follower"
        numbers = (status.raftTerm, status.raftAppliedIndex, status.header.revision)
        table.add_row(member.name, member.client_url, role, *map(str, numbers))
    console.print(table)


def demonstrate(cluster: Cluster, console: Console) -> None:
    """Form, load, kill, bring back."""
    began = time.monotonic()
    leader = cluster.start()
    console.print(f"Three members formed a cluster in {time.monotonic() - began:.1f} s.")
    show(cluster, console, "Before")
    others = [member.target for member in cluster.members if member is not leader]
    with Probe(others) as probe:
        probe.wait(WRITES, time.monotonic(), WRITE_SECONDS_MAX)
        console.print(f"200 writes a second go to the others. [red]Killing {leader.name}.[/]")
        killed = time.monotonic()
        leader.kill()
        probe.wait(WRITES, time.monotonic(), WRITE_SECONDS_MAX)
        gap = probe.longest_gap(killed, time.monotonic())
        successor = cluster.wait_leader(other_than=leader)
        console.print(f"{successor.name} leads; writes stood still for {1000 * gap:.0f} ms.")
        show(cluster, console, f"Without {leader.name}")
        back = time.monotonic()
        cluster.restart(leader)
        cluster.wait_leader(everyone=True)
        seconds = time.monotonic() - back
        gap = probe.longest_gap(back, time.monotonic())
        console.print(
            f"{leader.name} is back after {seconds:.1f} s; "
            f"longest write gap meanwhile {1000 * gap:.0f} ms."
        )
    revision = cluster.wait_same_revision()
    same = len(set(cluster.hashes(revision))) == 1
    show(cluster, console, "After")
    console.print(f"All stores at revision {revision}: {'equal' if same else '[red]different[/]'}.")


def main() -> int:
    """Runs in a directory of its own, which stays if something fails."""
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="kvshim-demo-"))
    try:
        with Cluster(3, directory) as cluster:
            demonstrate(cluster, console)
    except (AssertionError, StartError) as failure:
        print(f"demo-ha: {failure}; logs are in {directory}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
