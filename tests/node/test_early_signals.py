"""A node that is told to stop while it starts ends quietly: no traceback, exit code 0."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KVSHIM = Path(sys.executable).with_name("kvshim")
TRIES = 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_it_quietly(number, tmp_path):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    delays = random.Random(seed)
    for attempt in range(TRIES):
        command = [KVSHIM, "--data-dir", tmp_path / "data"]
        command += ["--listen-client-urls", f"unix://{tmp_path}/clients"]
        command += ["--advertise-client-urls", "http://127.0.0.1:2379"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            # Before its first line the interpreter itself may still be loading.
            assert process.stdout is not None
            first = process.stdout.readline()
            assert b"starting kvshim" in first, first
            time.sleep(delays.random())
            process.send_signal(number)
            output, _ = process.communicate(timeout=10)
        finally:
            process.kill()
        assert b"Traceback" not in output, (attempt, output)
        assert process.returncode == 0, (attempt, output)


LATE = """
import os, signal, sys
from kvshim.cli import main

class Told:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # where the interpreter looks for signals
            pass

def start(place):
    class Options:
        option = Told()

sys.argv = ["kvshim"]
main._load = start
sys.exit(main.main())
"""
"""A start that is told to stop while a class is made: Python 3.11 raises `RuntimeError` then."""


def test_a_signal_while_a_class_is_made_ends_it_quietly():
    command = [sys.executable, "-c", LATE]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
