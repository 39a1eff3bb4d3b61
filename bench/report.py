"""Shows a run: a table on the terminal, a JSON file, a chart, and the page that sums the files up.

Touches only `docs/bench/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import chart
from bench.figures import OURS, Line, lines
from bench.load import ROOT

DIRECTORY = ROOT / "docs" / "bench"
PAGE = "README.md"
FORMAT = 2

INTRODUCTION = """\
# Figures

Written by `make bench` (`python -m bench`); do not edit. Both servers get the same load from the
same program, one server at a time, in turns on one machine, each time fresh; `bench/measure/` says
what each measurement does. Most drive a Go load generator on etcd's own client
(`conformance/etcd/cmd/loadgen`) that puts kube-apiserver's load on a server: 64 workers on 4
connections; create, update and delete as guarded transactions, get, list, list in pages of 500,
watches with prev_kv of the whole prefix. It checks every answer and every event. Figures are
medians of the rounds, on loopback, server and load generator sharing the cores. They move from run
to run by up to 2x: trust the ratios. A goal with an x speaks of the ratio, one without of kvshim's
figure. How three members fail over and join is in [ha.md](ha.md).
"""


def print_table(run: dict[str, Any], console: Console) -> None:
    """The medians of each server, their ratio, the goals and how they fared."""
    console.print(title(run))
    table = Table()
    header, *rows = cells(run)
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right")
    colours = {"met": "green", "not met": "red"}
    for row in rows:
        verdict = row[-1]
        coloured = f"[{colours[verdict]}]{verdict}[/]" if verdict else ""
        table.add_row(*row[:-1], coloured)
    console.print(table)
    for sentence in sentences(run):
        console.print(sentence, highlight=False, markup=False)


def save(run: dict[str, Any], directory: Path = DIRECTORY) -> Path:
    """Writes the run's file and chart and renews the page; the path of the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{run['date'][:10]}-{run['what']}.json"
    path.write_text(json.dumps(run, indent=1) + "\n")
    path.with_suffix(".svg").write_text(chart.margins(lines(run), title(run)))
    if series := _series(run):
        _series_path(path).write_text(chart.series(series, title(run)))
    (directory / PAGE).write_text(page(directory))
    return path


def page(directory: Path) -> str:
    """A section for the newest run of each name, then the names of the older ones."""
    newest: dict[str, tuple[Path, dict[str, Any]]] = {}
    older = []
    files = [(path, json.loads(path.read_text())) for path in directory.glob("*.json")]
    for path, run in sorted(files, key=lambda file: file[1]["date"], reverse=True):
        if run.get("format") != FORMAT or run["what"] in newest:
            older.append(path.name)
        else:
            newest[run["what"]] = path, run
    parts = [INTRODUCTION, *(_section(*newest[what]) for what in sorted(newest))]
    if older:
        parts.append("Older: " + ", ".join(f"[{name}]({name})" for name in older) + ".\n")
    return "\n".join(parts)


def title(run: dict[str, Any]) -> str:
    """One line: what, when, how much."""
    scale = run["scale"]
    return (
        f"{run['what']}, {run['date'][:10]}: {scale['objects']:,} objects, large "
        f"{scale['large_objects']:,}, of {scale['value_bytes']:,} bytes"
    )


def cells(run: dict[str, Any]) -> list[list[str]]:
    """The table: a header, then a line for each figure."""
    servers = [server for server in run["versions"] if _appears(server, run)]
    table = [["median", *servers, "ratio", "goal", ""]]
    for line in lines(run):
        numbers = [_number(line, server) for server in servers]
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        table.append([line.figure.label, *numbers, ratio, line.figure.goal_text(), line.verdict])
    return table


def sentences(run: dict[str, Any]) -> list[str]:
    """What must be known to judge the figures."""
    machine, met = run["machine"], [line.verdict for line in lines(run) if line.verdict]
    found = [
        f"Goals met: {met.count('met')} of {len(met)}.",
        "Rounds: " + ", ".join(f"{name} {count}" for name, count in run["rounds"].items()) + ".",
        f"Machine: {machine['cores']} cores, {machine['memory_mib']:,} MiB, {machine['system']}, "
        f"Python {machine['python']}.",
    ]
    if run["records"]:
        shares = [record["other_cpu_share"] for record in run["records"]]
        found.append(
            f"Other programs used {sum(shares) / len(shares):.2f} cores on average, at most "
            f"{max(shares):.2f} in a trial."
        )
    return found + [f"Failed: {what}: {why}" for what, why in sorted(run["failures"].items())]


def _section(path: Path, run: dict[str, Any]) -> str:
    header, *rows = cells(run)
    versions = run["versions"]
    header = [f"{cell} {versions[cell]}" if cell in versions else cell for cell in header]
    ruler = ["---", *["---:"] * (len(header) - 3), "---", "---"]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [header, ruler, *rows])
    charts = [path.with_suffix(".svg"), _series_path(path)]
    images = "\n".join(f"![{one.stem}]({one.name})" for one in charts if one.exists())
    facts = "\n".join(f"- {sentence.splitlines()[0]}" for sentence in sentences(run))
    return (
        f"## {title(run)}\n\n{images}\n\n{table}\n\n{facts}\n"
        f"- All rounds: [{path.name}]({path.name}).\n"
    )


def _appears(server: str, run: dict[str, Any]) -> bool:
    return any(server in found for found in run["medians"].values())


def _number(line: Line, server: str) -> str:
    value = line.medians.get(server)
    return "" if value is None else f"{value:,.{line.figure.digits}f}"


def _series(run: dict[str, Any]) -> list[dict[str, float]]:
    for record in run["records"]:
        if record["server"] == OURS and "samples" in record["details"]:
            found = record["details"]["samples"]
            if isinstance(found, list):
                return found
    return []


def _series_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-series.svg")
