"""Runs the API stories of `tests/api` where `make test` does not.

On etcd itself: what they demand of kvshim is what etcd does. On kvshim's other transport: clients
see the same through both.

A process of its own, so that the stories see their own options and fixtures.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.servers import Kind
from conformance.summary import Counts, Recorder, count

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 600
LINES_SHOWN = 60
ENDED = re.compile(r"(\d+) (\w+)")


@pytest.mark.timeout(SECONDS_MAX + 10)
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(where, marks=pytest.mark.xdist_group(where))
        for where in ("--datastore=etcd", "--transport=grpcio")
    ],
)
def test_the_api_stories_pass(where: str, record_property: Recorder):
    if "etcd" in where and not (ROOT / "build" / "etcd").exists():
        pytest.fail("build/etcd is missing; `python conformance/build.py etcd` builds it")
    command = [sys.executable, "-m", "pytest", "tests/api", where, "-q", "-x"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        cwd=ROOT,
        timeout=SECONDS_MAX,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    ended = {how: int(number) for number, how in ENDED.findall(done.stdout.splitlines()[-1])}
    kind = Kind.ETCD if "etcd" in where else Kind.KVSHIM
    count(record_property, kind, Counts(**{how: ended.get(how, 0) for how in ("passed", "failed")}))
    assert done.returncode == 0, "\n".join(done.stdout.splitlines()[-LINES_SHOWN:])
