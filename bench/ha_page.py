"""From a measurement of clusters to the page that shows it beside its goals. Pure."""

from __future__ import annotations

import statistics
from typing import Any

from bench.load import ROOT

DIRECTORY = ROOT / "docs" / "bench"
GOALS = {"kill": "<= 1,200 / 2,500 ms", "stop": "max <= 100 ms"}
INTRODUCTION = """\
# Three members beside etcd's three

Written by `make bench-ha` (`python -m bench.ha`); do not edit. Three processes on one machine with
default timing, every trial on a new cluster, programs in turns. The other two members get a write
every 10 ms each, whatever became of those before. Kill: SIGKILL of the leader, until the next
acknowledged write. Stop: SIGTERM of the leader, longest gap between acknowledged writes. Loopback,
no TLS; members and clients share the cores. Join: two members with the objects, a third of each
random, 500 puts/s of 1 KiB (open loop) to the leader, and a third member; kvshim's by `add-node`
and `join` (so with TLS), etcd's by `MemberAdd` as a learner and `MemberPromote`, with so few log
entries kept (`--snapshot-count`, `--snapshot-catchup-entries`) that it sends a snapshot as well;
medians of the joins. Peaks are the highest of the three, read from the kernel (VmHWM): when the
third votes, and after one list of all objects at each member, in one answer, as API servers list
that ask for no pages.
"""

Table = list[list[str]]


def page(measurement: dict[str, Any]) -> str:
    """The whole page in Markdown."""
    machine, names = measurement["machine"], measurement["versions"]
    head = (
        f"## {measurement['date'][:10]}: etcd {names['etcd']}, kvshim {names['kvshim']}\n\n"
        f"Machine: {machine['cores']} cores, {machine['memory_mib']:,} MiB, {machine['system']}, "
        f"Python {machine['python']}; busy {100 * machine['busy_share']:.0f} % of the run, by the "
        "measurement and by others."
    )
    if not measurement["unchanged"]:
        head += " The sources changed while it ran."
    return "\n".join([INTRODUCTION, head, "", markdown(rows(measurement)), ""])


def rows(measurement: dict[str, Any]) -> Table:
    """A line for each figure."""
    table = [["figure", "etcd", "kvshim", "goal"]]
    for name, label in (("kill", "leader killed -> next write"), ("stop", "leader stopped: gap")):
        found = measurement[name]
        if found:
            cells = [_gap(found.get(kind)) for kind in ("etcd", "kvshim")]
            table.append([f"{label}, median / max ms", *cells, GOALS[name]])
    records = measurement["load"]["records"]
    phases = list(records[0]["per_second"]) if records else []
    for phase in phases:
        table.append([f"{phase}/s", *_medians(records, "per_second", phase), ""])
    for phase in phases:
        table.append([f"{phase} p99 ms", *_medians(records, "p99_ms", phase), ""])
    if records:
        peaks = [_peak(records, kind) for kind in ("etcd", "kvshim")]
        table.append(["RSS peak of a member MiB", *peaks, ""])
    for name, lines in (("join", JOIN), ("join_narrow", JOIN_NARROW)):
        if found := measurement.get(name):
            for key, label, goal in lines:
                cells = [_joined(found.get(kind), key) for kind in ("etcd", "kvshim")]
                table.append([label, *cells, goal])
    return table


JOIN = (
    ("objects", "join to a store of 1 KiB objects: how many", ""),
    ("seconds", "join, command to voter s", "<= 8 s"),
    ("terms", "elections meanwhile", "0"),
    ("rss_peak_mib", "RSS peak of a member MiB, snapshot sent", "<= 0.2x etcd"),
    ("rss_peak_listed_mib", "the same, and all objects listed at each MiB", "<= 0.2x etcd"),
    ("p99_before_ms", "p99 of 500 puts/s before ms", ""),
    ("p99_during_ms", "p99 of 500 puts/s while it joins ms", "< 2x before"),
)


JOIN_NARROW = (
    ("seconds", "the same behind 100 Mbit/s, command to voter s", "<= 60 s"),
    ("terms", "elections meanwhile", "0"),
    ("rss_peak_mib", "RSS peak of a member MiB, snapshot sent", "<= 0.2x etcd"),
    ("rss_peak_listed_mib", "the same, and all objects listed at each MiB", "<= 0.2x etcd"),
    ("p99_before_ms", "p99 of 500 puts/s before ms", ""),
    ("p99_during_ms", "p99 of 500 puts/s while it joins ms", "< 2x before"),
)


def markdown(table: Table) -> str:
    """A Markdown table; its first row is the header."""
    ruler = ["---", "---:", "---:", "---"]
    return "\n".join(f"| {' | '.join(row)} |" for row in (table[0], ruler, *table[1:]))


def _gap(found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    return f"{1000 * found['median']:,.0f} / {1000 * found['max']:,.0f} ({found['trials']:.0f})"


def _medians(records: list[dict[str, Any]], what: str, phase: str) -> list[str]:
    cells = []
    for kind in ("etcd", "kvshim"):
        values = [record[what][phase] for record in records if record["server"] == kind]
        cells.append(f"{statistics.median(values):,.0f}" if values else "-")
    return cells


def _peak(records: list[dict[str, Any]], kind: str) -> str:
    peaks = [max(r["rss_peak_mib"].values()) for r in records if r["server"] == kind]
    return f"{statistics.median(peaks):,.0f}" if peaks else "-"


def _joined(found: dict[str, Any] | None, key: str) -> str:
    if found is None:
        return "-"
    value = found[key]
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
