"""etcdctl's own checks of a cluster: `check perf` for a minute, and `check datascale`."""

import subprocess
from pathlib import Path

import pytest

from conformance.servers import ETCDCTL, Datastore, Kind

CHECK_SECONDS_MAX = 240


@pytest.mark.timeout(3 * CHECK_SECONDS_MAX)
@pytest.mark.parametrize("kind", [Kind.KVSHIM, Kind.ETCD], ids=lambda kind: kind.value)
def test_the_checks_pass(kind: Kind, tmp_path: Path):
    with Datastore(kind, tmp_path / "datastore") as datastore:
        # Its other verdicts, on the slowest request, are about the machine as well.
        assert "PASS: Throughput is" in check(datastore, "perf")
        assert "PASS: Approximate system memory used" in check(datastore, "datascale")


def check(datastore: Datastore, what: str) -> str:
    """What etcdctl says of a small load; it draws its progress on standard error."""
    done = subprocess.run(
        [ETCDCTL, f"--endpoints={datastore.client_url}", "check", what, "--load=s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=CHECK_SECONDS_MAX,
        check=False,
    )
    print(f"{datastore.kind.value} check {what}:\n{done.stdout}")
    return done.stdout
