"""The process that fuzzes: `python -m conformance.fuzz.harness [libFuzzer options] [corpus ...]`.

With a file instead of a folder it runs that input alone, which is how a finding is looked at.
"""

import sys
import time

import atheris

with atheris.instrument_imports(include=["kvshim.transport", "kvshim.http", "kvshim.gateway"]):
    from conformance.fuzz import targets

CPU_SECONDS_MAX = 2.0
"""Of one input, however busy the machine is; instrumented code is five times slower."""


def one_input(data: bytes) -> None:
    began = time.thread_time()
    targets.run(data)
    took = time.thread_time() - began
    assert took < CPU_SECONDS_MAX, f"an input of {len(data)} bytes took {took:.1f} s"


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
