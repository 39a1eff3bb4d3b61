"""`kvshim recover --from-this-node`: the one command after a majority was lost for good.

Run on a member that does not run. It says what it found and what may be lost, asks, and makes a new
cluster of this member alone (`kvshim.node.recovery`).
"""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from kvshim.backend.datadir import RAFT_NAME, DataDir
from kvshim.cli.admin_options import UsageError, data_dir_option, run_command
from kvshim.errors import StartupError
from kvshim.node.recovery import BACKUPS_NAME, finish, recover, unfinished
from kvshim.node.survivor import RecoverError, Survivor, answers, look
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pki.files import Pki


def run(arguments: Sequence[str]) -> int:
    return run_command(_recover, arguments)


@click.command("recover")
@click.option("--from-this-node", is_flag=True, help="Go on from the data of this node.")
@data_dir_option
@click.option(
    "--backup-dir",
    type=click.Path(path_type=Path),
    help="Where the data as it was is kept; <data-dir>/backups if not given.",
)
@click.option(
    "--new-ca",
    is_flag=True,
    help="Found a new CA: the lost voters hold the key of the old one, and may be in other hands.",
)
@click.option("--yes", is_flag=True, help="Do not ask, for scripts.")
def _recover(
    from_this_node: bool,  # noqa: FBT001
    data_dir: Path,
    backup_dir: Path | None,
    new_ca: bool,  # noqa: FBT001
    yes: bool,  # noqa: FBT001
) -> None:
    """Make a new cluster of this node alone, after the majority is lost for good.

    Only for that: while a majority of the voters can be started, start them instead. The node must
    not run. Running it again after it was cut short is harmless.
    """
    if not from_this_node:
        raise UsageError("say kvshim recover --from-this-node, on the node to go on from")
    if not (data_dir / RAFT_NAME).exists():
        raise RecoverError(f"{data_dir} holds no data of a node")
    directory = _locked(data_dir)
    try:
        if (plan := unfinished(directory)) is not None:
            print("A recovery was cut short here, behind its turn. It goes on.")
            finish(directory, plan, _tell)
            _tell_what_is_next(data_dir, own_trust=Pki.of(data_dir).exists())
            return
        found = look(directory)
        if not found.others and not found.member.learner:
            print(
                f"This node is the only member of the cluster {found.cluster_id:x}:"
                " there is nothing to recover. Start it."
            )
            return
        for line in _description(found):
            _tell(line)
        _ask(yes=yes)
        backups = backup_dir or data_dir / BACKUPS_NAME
        recover(directory, found, backups, _tell, new_ca=new_ca)
    finally:
        directory.close()
    _tell_what_is_next(data_dir, own_trust=found.own_trust)


def _locked(data_dir: Path) -> DataDir:
    try:
        return DataDir.open(data_dir)
    except StartupError as error:
        raise RecoverError(f"{error}: stop the node first, if it is that") from None


def _description(found: Survivor) -> Iterator[str]:
    own = found.member
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.log_written))
    role = "standby (learner)" if own.learner else "voter"
    yield f"Found: member {_named(own)}, {role}, of the cluster {found.cluster_id:x}."
    yield (
        f"  Its log ends at entry {found.last_index} of term {found.last_term}, last written"
        f" {written}."
    )
    yield (
        f"  Its store holds entries up to {found.applied_index}, revision {found.revision};"
        f" up to {found.committed_index} is known to be committed."
    )
    yield "  The other members:"
    answering = 0
    for other in found.others:
        answer = answers(other)
        answering += answer
        kind = "learner" if other.learner else "voter"
        yield (
            f"    {_named(other)}, {kind}, {','.join(other.peer_urls) or 'no address'}:"
            f" {'SOMEBODY ANSWERS THERE' if answer else 'no answer'}"
        )
    yield ""
    if answering:
        yield (
            "Warning: members answer. If a majority of the voters can be started, do that instead,"
            " and nothing is lost; if not, stop them before you go on."
        )
    yield "What may be lost:"
    yield (
        "  - Writes that the others acknowledged and that never came here. Nothing on this node"
        " says how many."
    )
    if own.learner:
        yield "  - More of these than on a voter, as a standby may lag behind all of them."
    yield from _uncertain(found)
    yield "What will be done:"
    yield "  - The data as it is now is kept as a backup."
    yield (
        "  - This member becomes the only one of a new cluster with a new id; the others are"
        " refused until they join it anew. Join tokens end."
    )
    yield (
        "  - The revision rises by 1,000,000,000 and everything before is compacted, so that no"
        " revision is used twice: watchers are told, and list anew."
    )
    yield (
        "Never start the others again on their old data: a majority of them would go on as the"
        " old cluster, beside this one."
    )


def _uncertain(found: Survivor) -> Iterator[str]:
    if count := found.uncertain_entries:
        yield "What is kept although nobody knows whether it counted:"
        yield (
            f"  - The last {count} entries of the log are kept. The lost majority may have"
            " acknowledged them; clients may have been told that they timed out."
        )


def _ask(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise RecoverError("nobody is there to ask: add --yes; nothing was changed")
    if input('Type "yes" to go on: ').strip() != "yes":
        raise RecoverError("nothing was changed")


def _tell_what_is_next(data_dir: Path, *, own_trust: bool) -> None:
    print("\nStart this node as before: its --initial-cluster flags no longer count.")
    if own_trust:
        print(
            "Then bring each other machine in: stop its node, empty its data directory, run\n"
            f"  kvshim add-node --data-dir {data_dir}\n"
            "here, and there the line that this prints."
        )
    else:
        print(
            "Then bring each other machine in: stop its node, empty its data directory, run\n"
            "  etcdctl member add <name> --peer-urls=<its peer address>\n"
            "and start it with --initial-cluster-state=existing and an --initial-cluster that names"
            "\nthis node and itself."
        )


def _tell(line: str) -> None:
    """Folded, and indented as it begins."""
    indent = " " * (len(line) - len(line.lstrip(" -")))
    print(textwrap.fill(line, 96, subsequent_indent=indent, break_on_hyphens=False))


def _named(member: Member) -> str:
    return f"{member.id:x} ({member.name})" if member.name else f"{member.id:x}"
