"""What commands about a running node share: `--data-dir`, and how it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kvshim.errors import KvshimError
from kvshim.server.admin_socket import SOCKET_NAME, AdminClient


class UsageError(KvshimError):
    """The command line is not understood."""

    exit_code = 2


data_dir_option = click.option(
    "--data-dir",
    envvar="ETCD_DATA_DIR",
    type=click.Path(path_type=Path),
    default=Path("default.kvshim"),
    show_default=True,
    help="The data directory of the node that runs here.",
)


def run_command(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a click command; what it cannot understand is a `UsageError`, as everywhere."""
    try:
        command.main(
            args=list(arguments), prog_name=f"kvshim {command.name}", standalone_mode=False
        )
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    return 0


def node_at(data_dir: Path) -> AdminClient:
    """The node that runs on a data directory."""
    return AdminClient(data_dir / SOCKET_NAME)
