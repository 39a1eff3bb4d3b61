"""Fuzzes for some seconds: `python -m conformance.fuzz 600`.

What is learned stays in `build/fuzz/corpus`, from where the next run goes on. A finding is a file
in `build/fuzz`; `python -m conformance.fuzz.harness FILE` runs it again.
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass

from conformance.fuzz import seeds
from conformance.servers import BUILD_DIR, ROOT

HERE = BUILD_DIR / "fuzz"
INPUT_BYTES_MAX = 4096
INPUT_SECONDS_MAX = 20
"""Until libFuzzer gives a hanging input up; the harness itself counts CPU time."""
RSS_MIB_MAX = 512
STOP_SECONDS_MAX = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run."""

    passed: bool
    inputs: int
    report: str


def run(seconds: int) -> Outcome:
    """Fuzz in a process of its own."""
    seeds.write(HERE / "seeds")
    (HERE / "corpus").mkdir(exist_ok=True)
    options = {
        "max_total_time": seconds,
        "max_len": INPUT_BYTES_MAX,
        "timeout": INPUT_SECONDS_MAX,
        "rss_limit_mb": RSS_MIB_MAX,
        "artifact_prefix": f"{HERE}/",
        "print_final_stats": 1,
    }
    command = [sys.executable, "-m", "conformance.fuzz.harness"]
    command += [f"-{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [*command, str(HERE / "corpus"), str(HERE / "seeds")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds + STOP_SECONDS_MAX,
        text=True,
        errors="replace",
        check=False,
    )
    counted = re.search(r"number_of_executed_units: (\d+)", done.stdout)
    return Outcome(done.returncode == 0, int(counted[1]) if counted else 0, done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("seconds", type=int)
    outcome = run(parser.parse_args().seconds)
    print(outcome.report if not outcome.passed else f"{outcome.inputs} inputs, nothing found")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
