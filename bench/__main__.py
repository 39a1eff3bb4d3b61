"""The command `python -m bench`, which `make bench` calls: kvshim beside etcd in one run.

Builds what it needs, measures, prints the goals' table and keeps everything under `docs/bench/`.
Exit code 1 with one sentence if something could not be measured; a goal that is missed is no error.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import psutil
from rich.console import Console

from bench import figures, load, report, versions
from bench.load import ROOT, LoadError
from bench.measure import MEASUREMENTS
from bench.runner import Plan, Results, measure
from bench.scale import Scale
from bench.trial import Measurement
from conformance import build
from conformance.servers import Kind

SUMMARY = "Puts the same load on etcd and kvshim in turns and prints how they compare."
NAMES = ", ".join(measurement.name for measurement in MEASUREMENTS)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line. Every field of `Scale` is an option."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=SUMMARY)
    parser.add_argument("--only", type=_names, help=f"measurements by comma, of {NAMES}")
    parser.add_argument("--list", action="store_true", help="print the measurements and stop")
    parser.add_argument("--server", choices=[kind.value for kind in Kind], help="one server only")
    parser.add_argument("--with-kine", action="store_true", help="kine, too (takes gcc to build)")
    parser.add_argument("--rounds", type=int, help="of every measurement, instead of its own")
    parser.add_argument("--full", action="store_true", help="three rounds of everything")
    parser.add_argument("--what", help="name of the figures' file (default: what was measured)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    parser.add_argument("--etcd-flag", action="append", default=[], metavar="FLAG")
    parser.add_argument("--kvshim-flag", action="append", default=[], metavar="FLAG")
    usual = Scale()
    for field in fields(Scale):
        value = getattr(usual, field.name)
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=type(value), default=value, metavar=f"{value:g}")
    return parser.parse_args(arguments)


def _names(text: str) -> list[Measurement]:
    known = {measurement.name: measurement for measurement in MEASUREMENTS}
    if unknown := [name for name in text.split(",") if name not in known]:
        raise argparse.ArgumentTypeError(f"no measurement {unknown[0]!r}; there are {NAMES}")
    return [known[name] for name in text.split(",")]


def plan_of(options: argparse.Namespace) -> Plan:
    """What the command line asks for."""

    def rounds(of: Measurement) -> int:
        usual: int = options.rounds or (of.rounds_full if options.full else of.rounds)
        return usual

    chosen = options.only or [measurement for measurement in MEASUREMENTS if measurement.usual]
    return Plan(
        measurements=chosen,
        servers=_servers(options),
        rounds=rounds,
        scale=replace(Scale(), **{f.name: getattr(options, f.name) for f in fields(Scale)}),
        flags={Kind.ETCD: options.etcd_flag, Kind.KVSHIM: options.kvshim_flag},
    )


def _servers(options: argparse.Namespace) -> list[Kind]:
    if options.server:
        return [Kind(options.server)]
    return [Kind.ETCD, Kind.KVSHIM, *([Kind.KINE] if options.with_kine else [])]


def name_of(options: argparse.Namespace) -> str:
    """The name that runs of the same kind share."""
    if options.what:
        return str(options.what)
    chosen = "-".join(one.name for one in options.only) if options.only else "all"
    return "-".join(filter(None, [chosen, options.server, "full" if options.full else None]))


def run_of(plan: Plan, what: str, kvshim_version: str, results: Results) -> dict[str, Any]:
    """Everything about a run that is worth keeping."""
    return {
        "format": report.FORMAT,
        "what": what,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "measurements": [measurement.name for measurement in plan.measurements],
        "rounds": {one.name: plan.rounds(one) for one in plan.measurements},
        "scale": asdict(plan.scale),
        "flags": {kind.value: list(flags) for kind, flags in plan.flags.items() if flags},
        "versions": {
            Kind.ETCD.value: versions.etcd(),
            Kind.KVSHIM.value: kvshim_version,
            Kind.KINE.value: versions.kine(),
        },
        "machine": {
            "cores": os.cpu_count(),
            "memory_mib": psutil.virtual_memory().total // (1 << 20),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "medians": figures.medians(results.records),
        "records": results.records,
        "failures": results.failures,
    }


def main(arguments: Sequence[str]) -> int:
    """Builds, measures, prints, saves."""
    options, console = parse(arguments), Console(width=110)
    if options.list:
        for one in MEASUREMENTS:
            console.print(f"{one.name:6} {one.title}" + ("" if one.usual else " (only if named)"))
        return 0
    plan, began = plan_of(options), time.monotonic()
    try:
        for kind in (Kind.ETCD, Kind.KINE):
            if any(kind in one.takes(plan.servers) for one in plan.measurements):
                build.build(build.TARGETS[kind.value])
        load.build()
        program = versions.Program.now()
        program.compile()
        results = measure(plan, lambda line: print(line, flush=True))
        if Kind.KVSHIM in plan.servers:
            program.require_unchanged()
    except (LoadError, versions.VersionError, subprocess.CalledProcessError) as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    run = run_of(plan, name_of(options), program.version, results)
    report.print_table(run, console)
    if not options.no_save:
        path = report.save(run)
        console.print(f"Saved as {path.relative_to(ROOT)}")
    console.print(f"Took {time.monotonic() - began:.0f} s.")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
