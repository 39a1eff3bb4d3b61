"""`kvshim roles`: how many voters and standbys the cluster wants, shown and changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kvshim.cli.admin_options import data_dir_option, node_at, run_command


def run(arguments: Sequence[str]) -> int:
    return run_command(_roles, arguments)


@click.command("roles")
@click.option("--voters", type=int, help="How many members vote: odd.")
@click.option("--standbys", type=int, help="How many more hold the data.")
@data_dir_option
def _roles(voters: int | None, standbys: int | None, data_dir: Path) -> None:
    """Show how many members vote and how many more hold the data, or say how many should.

    It concerns members that came by `kvshim join`, and the whole cluster; `kvshim status` shows who
    has which role.
    """
    found = node_at(data_dir).call("roles", {"voters": voters, "standbys": standbys})
    print(f"{found['voters']} voters, {found['standbys']} standbys; all others are spares")
