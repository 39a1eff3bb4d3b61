"""What the C library keeps of freed memory: enough for the pieces of lists, and no more."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, resource
from kvshim.node.memory import tune_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)

tune_memory()
bytearray(b"x") * (1 << 20)
before = faults()
for _ in range(100):
    bytearray(b"x") * (1 << 20)
pieces = faults() - before
idle = resident_mib()
bytearray(b"x") * (64 << 20)
print(json.dumps([pieces, resident_mib() - idle]))
"""


def test_pieces_of_lists_reuse_memory_and_large_blocks_go_back():
    """A fault costs what reading half a row does, and a piece of a MiB is 256 pages."""
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, capture_output=True, check=True, text=True)
    faults, kept_mib = json.loads(ran.stdout)
    assert faults < 1000
    assert kept_mib < 8
