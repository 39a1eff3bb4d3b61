"""`kvshim add-node`: asks the node that runs here for a join token, and prints one line to run."""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from kvshim.cli.admin_options import data_dir_option, node_at, run_command


def run(arguments: Sequence[str]) -> int:
    return run_command(_add_node, arguments)


@click.command("add-node")
@data_dir_option
@click.option(
    "--renew",
    metavar="MEMBER",
    default="",
    help="Instead of a new member: a new certificate for this one (id or name), "
    "whose certificate expired while it was off.",
)
@click.option(
    "--address",
    metavar="HOST[:PORT]",
    default="",
    help="Where other nodes reach this one, when its first neighbour is to come "
    "(default: the address by which this machine reaches others, port 2380).",
)
def _add_node(data_dir: Path, renew: str, address: str) -> None:
    """Print the line that makes another machine a member of this cluster.

    Run on a voter. The line holds a secret: it lets one node in, once, for 15 minutes.
    """
    answer = node_at(data_dir).call("add-node", {"renew": renew, "address": address})
    print(answer["line"])
    minutes = max(1, round((answer["expires_ms"] / 1000 - time.time()) / 60))
    _hint(f"Run it on the node to add. It works once, for {minutes} minutes.")
    if _is_local(answer["address"]):
        _hint(
            f"{answer['address']} can only be reached from this machine: for others to join, "
            "start this node with a peer address that they can reach."
        )


def _hint(text: str) -> None:
    """For a person, beside the line that a script reads."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
