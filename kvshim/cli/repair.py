"""`kvshim repair`: a member's store is replaced by the leader's, and compared with the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kvshim.cli.admin_options import data_dir_option, run_command
from kvshim.errors import KvshimError
from kvshim.server.admin_socket import SOCKET_NAME, AdminClient

REPAIR_SECONDS_MAX = 2 * 3600.0


def run(arguments: Sequence[str]) -> int:
    return run_command(_repair, arguments)


@click.command("repair")
@click.option("--member", default="", help="Id or name of the member; the node that runs here.")
@data_dir_option
def _repair(member: str, data_dir: Path) -> None:
    """Replace a member's store by the leader's, while it runs, and compare it with the others.

    Does away with the alarm CORRUPT about that member once it holds what they hold. Repairing a
    sound member does no harm.
    """
    client = AdminClient(data_dir / SOCKET_NAME, REPAIR_SECONDS_MAX)
    found = client.call("repair", {"member": member})
    if not found["equal"]:
        others = ", ".join(found["named"]) or "the others do not answer"
        raise KvshimError(
            f"the store of member {found['member']} was replaced, but is not known to be equal to"
            f" the others' at revision {found['revision']}: {others}"
        )
    print(
        f"Member {found['member']} holds the leader's store, equal to the others' at revision"
        f" {found['revision']}."
    )
    if found["silent"]:
        print(f"Not compared, since they do not answer: {', '.join(found['silent'])}.")
