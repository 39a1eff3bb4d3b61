"""Shows a measurement: a table on the terminal, a JSON file, and the page that sums the files up.

Touches only `docs/bench/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.figures import Better, Figure, shown
from bench.load import ROOT

DIRECTORY = ROOT / "docs" / "bench"
PAGE = "README.md"

INTRODUCTION = """\
# Figures

Written by `make bench` (`python -m bench`); do not edit. A Go load generator on etcd's own client
(`conformance/etcd/cmd/loadgen`) puts kube-apiserver's load on etcd and on kvshim, one at a time and
in turns on one machine: 64 workers on 4 connections; create, update and delete as guarded
transactions, get, list, list in pages of 500, watchers with prev_kv of the whole prefix under 200
updates a second. It checks every answer and every event. Figures are medians of the rounds, on
loopback without TLS, server and load generator sharing the cores. They move from run to run by up
to 2x: trust the ratios.
"""


def print_table(measurement: dict[str, Any], console: Console) -> None:
    """The medians of each server and, of two, their ratio."""
    console.print(title(measurement))
    table = Table()
    servers, compared = list(measurement["medians"]), measurement["ratios"] is not None
    table.add_column("median")
    for server in servers:
        table.add_column(server, justify="right")
    if compared:
        table.add_column("kvshim / etcd", justify="right")
        table.add_column("better")
    for figure in shown(measurement["load"]["phases"]):
        row = [figure.label]
        row += [_number(measurement["medians"][server][figure.name], figure) for server in servers]
        if compared:
            ratio = measurement["ratios"][figure.name]
            row += [_coloured(ratio, figure), figure.better.value]
        table.add_row(*row)
    console.print(table)
    console.print(_noise(measurement))


def save(measurement: dict[str, Any], directory: Path = DIRECTORY) -> Path:
    """Writes the measurement's file and renews the page; the path of the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{measurement['date'][:10]}-{measurement['what']}.json"
    path.write_text(json.dumps(measurement, indent=1) + "\n")
    (directory / PAGE).write_text(page(directory))
    return path


def page(directory: Path) -> str:
    """A table for the newest measurement of each kind, then the names of the older ones."""
    newest: dict[str, tuple[Path, dict[str, Any]]] = {}
    older = []
    files = [(path, json.loads(path.read_text())) for path in directory.glob("*.json")]
    for path, measurement in sorted(files, key=lambda file: file[1]["date"], reverse=True):
        if measurement["what"] in newest:
            older.append(path.name)
        else:
            newest[measurement["what"]] = path, measurement
    parts = [INTRODUCTION]
    for what in sorted(newest):
        path, measurement = newest[what]
        parts.append(f"## {title(measurement)}\n\n{_markdown(measurement)}\n")
        parts.append(f"{_noise(measurement)} All rounds: [{path.name}]({path.name}).\n")
    if older:
        parts.append("Older: " + ", ".join(f"[{name}]({name})" for name in older) + ".\n")
    return "\n".join(parts)


def title(measurement: dict[str, Any]) -> str:
    """One line: what, when, which load."""
    load, rounds = measurement["load"], measurement["rounds"]
    return (
        f"{measurement['what']}, {measurement['date'][:10]}: {load['objects']:,} objects of "
        f"{load['value_bytes']:,} bytes, {load['watchers']} watchers, rounds: {rounds}"
    )


def _markdown(measurement: dict[str, Any]) -> str:
    servers, compared = list(measurement["medians"]), measurement["ratios"] is not None
    versions = [f"{server} {measurement['versions'][server]}" for server in servers]
    header = ["median", *versions, *(["kvshim / etcd", "better"] if compared else [])]
    rows = [header, ["---", *["---:"] * len(servers), *(["---:", "---"] if compared else [])]]
    for figure in shown(measurement["load"]["phases"]):
        row = [figure.label]
        row += [_number(measurement["medians"][server][figure.name], figure) for server in servers]
        if compared:
            row += [_ratio(measurement["ratios"][figure.name]), figure.better.value]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _noise(measurement: dict[str, Any]) -> str:
    machine = measurement["machine"]
    busy = ", ".join(f"{record['other_cpu_seconds']:.1f}" for record in measurement["records"])
    return (
        f"Machine: {machine['cores']} cores, {machine['memory_mib']:,} MiB, {machine['system']}, "
        f"Python {machine['python']}. CPU seconds that others took during each run: {busy}."
    )


def _number(value: float, figure: Figure) -> str:
    return f"{value:,.{figure.digits}f}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _coloured(ratio: float | None, figure: Figure) -> str:
    if ratio is None:
        return _ratio(ratio)
    ahead = ratio >= 1 if figure.better is Better.HIGHER else ratio <= 1
    return f"[{'green' if ahead else 'red'}]{_ratio(ratio)}[/]"
