"""The command `python -m bench`, which `make bench` calls: kvshim beside etcd in one run.

Builds what it needs, measures, prints a table and keeps the figures under `docs/bench/`. Exit code
1 with one sentence if a server answered wrongly or would not run.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import psutil
from rich.console import Console

from bench import figures, load, report, versions
from bench.load import ROOT, Load, LoadError
from bench.rounds import Plan, measure
from conformance import build
from conformance.servers import Kind, ServerError

SUMMARY = "Puts the same load on etcd and kvshim in turns and prints how they compare."


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    usual = Load()
    parser = argparse.ArgumentParser(prog="python -m bench", description=SUMMARY)
    parser.add_argument("--rounds", type=int, default=3, help="how often each server is measured")
    parser.add_argument("--only", choices=[kind.value for kind in Kind], help="one server only")
    parser.add_argument("--n", type=int, default=usual.objects, help="objects")
    parser.add_argument("--value-bytes", type=int, default=usual.value_bytes)
    parser.add_argument("--watchers", type=int, default=usual.watchers)
    parser.add_argument("--watch-seconds", type=float, default=usual.watch_seconds)
    parser.add_argument("--list-repeats", type=int, default=usual.list_repeats)
    parser.add_argument("--phases", default=",".join(usual.phases), help="by comma; also: stream")
    parser.add_argument("--etcd-flag", action="append", default=[], metavar="FLAG")
    parser.add_argument("--kvshim-flag", action="append", default=[], metavar="FLAG")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds a run may take")
    parser.add_argument("--what", help="name of the figures' file (default: by the load)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    return Plan(
        servers=[Kind(options.only)] if options.only else [Kind.ETCD, Kind.KVSHIM],
        rounds=options.rounds,
        load=Load(
            objects=options.n,
            value_bytes=options.value_bytes,
            watchers=options.watchers,
            watch_seconds=options.watch_seconds,
            list_repeats=options.list_repeats,
            phases=options.phases.split(","),
        ),
        flags={Kind.ETCD: options.etcd_flag, Kind.KVSHIM: options.kvshim_flag},
        timeout_seconds=options.timeout,
    )


def measurement_of(
    plan: Plan, what: str, kvshim_version: str, records: list[figures.Record]
) -> dict[str, Any]:
    """Everything about a measurement that is worth keeping."""
    medians = figures.medians(records, plan.load.phases)
    both = Kind.ETCD.value in medians and Kind.KVSHIM.value in medians
    return {
        "what": what,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": asdict(plan.load),
        "rounds": plan.rounds,
        "flags": {kind.value: list(flags) for kind, flags in plan.flags.items() if flags},
        "versions": {Kind.ETCD.value: versions.etcd(), Kind.KVSHIM.value: kvshim_version},
        "machine": {
            "cores": os.cpu_count(),
            "memory_mib": psutil.virtual_memory().total // (1 << 20),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "medians": medians,
        "ratios": figures.ratios(medians["kvshim"], medians["etcd"]) if both else None,
        "records": records,
    }


def main(arguments: list[str]) -> int:
    """Builds, measures, prints, saves."""
    options = parse(arguments)
    plan, console = plan_of(options), Console()
    try:
        if Kind.ETCD in plan.servers:
            build.build(build.TARGETS["etcd"])
        load.build()
        program = versions.Program.now()
        records = measure(plan, console.print)
        if Kind.KVSHIM in plan.servers:
            program.require_unchanged()
    except (
        LoadError,
        versions.VersionError,
        ServerError,
        subprocess.CalledProcessError,
    ) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    what = options.what or "-".join(["one-node", str(options.n), *filter(None, [options.only])])
    measurement = measurement_of(plan, what, program.version, records)
    report.print_table(measurement, console)
    if not options.no_save:
        path = report.save(measurement)
        console.print(f"Saved as {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
