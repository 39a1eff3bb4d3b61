"""`python -m conformance.differential`: random requests on etcd and kvshim, compared."""

from __future__ import annotations

import argparse
import sys
import time

from conformance.differential import suite
from conformance.servers import Kind


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", action="append", help="may be repeated; a fresh one if none")
    arguments.add_argument("--requests", type=int, default=200_000, help="of all seeds together")
    arguments.add_argument("--workers", type=int, default=suite.WORKERS)
    arguments.add_argument("--trial", choices=[kind.value for kind in Kind], default="kvshim")
    chosen = arguments.parse_args()
    seeds = chosen.seed or [suite.fresh_seed()]
    print(f"seeds: {' '.join(seeds)}", flush=True)
    began = time.monotonic()
    report = suite.run(
        Kind(chosen.trial), seeds, chosen.requests // len(seeds), workers=chosen.workers
    )
    print(told(report, time.monotonic() - began))
    if Kind(chosen.trial) is Kind.KVSHIM:
        for path in suite.write(report.found):
            print(f"written: {path}")
    return 1 if report.found else 0


def told(report: suite.Report, seconds: float) -> str:
    """A report in words."""
    return (
        f"{report.requests} requests in {report.sequences} sequences, "
        f"{len(report.found)} with a difference, {seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
