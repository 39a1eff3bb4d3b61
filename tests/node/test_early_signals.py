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
