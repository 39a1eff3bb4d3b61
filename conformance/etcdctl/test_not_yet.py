"""Services that kvshim does not have yet say so at once; nothing hangs, nothing pretends."""

import shlex
import time

import pytest

from conformance.etcdctl.pair import Pair

SECONDS_MAX = 3.0

NOT_YET = """
    downgrade validate 3.6.0
    downgrade enable 3.6.0
    downgrade cancel
"""


@pytest.mark.parametrize("command", NOT_YET.strip().splitlines())
def test_a_clear_answer_at_once(pair: Pair, command: str):
    started = time.monotonic()
    done = pair.kvshim.store.etcdctl(*shlex.split(command), check=False)
    assert time.monotonic() - started < SECONDS_MAX
    assert done.returncode != 0
    assert done.stdout == ""
    assert "code = Unimplemented" in done.stderr.splitlines()[-1], done.stderr


def test_the_server_goes_on(pair: Pair):
    pair.run("put", "still", "here")
    assert pair.run("get", "still").lines == ["still", "here"]
