"""`kvshim help` and `kvshim --help`: every flag, grouped as etcd groups them, ours at the end.

Prints to stdout by rich, which folds lines to the width of the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvshim.config.extra_flags import EXTRAS
from kvshim.config.flag import Disposition, Flag, Section
from kvshim.config.tables import ETCD_FLAGS

_USAGE = """\
Usage:
  kvshim [flags]     start a node; the flags are etcd's
  kvshim add-node    print the line that makes another machine a member
  kvshim join        become a member and start: kvshim join <address>#<token> [flags]
  kvshim remove-node take a member out of the cluster
  kvshim certs       show this node's certificates
  kvshim status      show the cluster: members, leader, quorum
  kvshim roles       show or change how many members vote and stand by
  kvshim repair      replace a damaged or diverged member's store by the leader's
  kvshim recover     after the majority is lost for good: go on from this node alone
  kvshim import      make data of an etcd snapshot, a data directory or a running server
  kvshim export      write the data of a node that was stopped as a snapshot for etcd
  kvshim version     show versions
  kvshim help        show this help

Write --name=value or --name value. A flag may come from the environment instead,
--data-dir as ETCD_DATA_DIR, or all of them from a YAML file, by --config-file.
"""

_MARKS = {
    Disposition.OBEYED: "",
    Disposition.ACCEPTED: "Without effect: ",
    Disposition.REFUSED: "Refused: ",
}


_NAME_WIDTH = max(len(flag.name) for flag in (*ETCD_FLAGS, *EXTRAS)) + 4


def run(_: Sequence[str]) -> int:
    console = Console(highlight=False, soft_wrap=False)
    console.print(_USAGE, markup=False)
    for section in Section:
        flags = [flag for flag in (*ETCD_FLAGS, *EXTRAS) if flag.section is section]
        if flags and section is not Section.RETIRED:
            console.print(Text(f"{section.value}:", style="bold"))
            console.print(_table(flags))
            console.print()
    console.print(
        "Flags that etcd 3.5 and 3.6 had (--experimental-*) are taken too, with a warning.",
        markup=False,
    )
    return 0


def _table(flags: Sequence[Flag]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, width=_NAME_WIDTH)
    table.add_column(overflow="fold")
    for flag in flags:
        table.add_row(Text(f"  --{flag.name}", style="cyan"), _describe(flag))
    return table


def _describe(flag: Flag) -> Text:
    text = Text(flag.help)
    if flag.default and flag.disposition is Disposition.OBEYED:
        text.append(f" Default {flag.default}.", style="dim")
    if flag.disposition is not Disposition.OBEYED:
        text.append(f" {_MARKS[flag.disposition]}{flag.note}.", style="yellow")
    return text
