"""`kvshim remove-node <id|name>`: the node that runs here has a member taken out of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kvshim.cli.admin_options import data_dir_option, node_at, run_command


def run(arguments: Sequence[str]) -> int:
    return run_command(_remove_node, arguments)


@click.command("remove-node")
@click.argument("member")
@data_dir_option
def _remove_node(member: str, data_dir: Path) -> None:
    """Remove a member, by its id or name; it may be gone for good.

    Its id is never used again. To bring the machine back, empty its data directory and join anew.
    """
    answer = node_at(data_dir).call("remove-node", {"member": member})
    name = f" ({answer['name']})" if answer["name"] else ""
    print(f"Removed member {answer['id']}{name}.")
