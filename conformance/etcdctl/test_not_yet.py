"""Services that kvshim does not have yet say so at once; nothing hangs, nothing pretends."""

import time
from pathlib import Path

from conformance.etcdctl.pair import Pair

SECONDS_MAX = 3.0


def test_a_snapshot_leaves_no_file(pair: Pair, tmp_path: Path):
    started = time.monotonic()
    done = pair.kvshim.store.etcdctl("snapshot", "save", str(tmp_path / "s.db"), check=False)
    assert time.monotonic() - started < SECONDS_MAX
    assert done.returncode != 0
    assert "Unimplemented" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "s.db").exists()


def test_the_server_goes_on(pair: Pair):
    pair.run("put", "still", "here")
    assert pair.run("get", "still").lines == ["still", "here"]
