"""How long these stories go on, and that no two clusters run at the same time.

`pytest tests/cluster --cluster-seconds 600` is the long form; `KVSHIM_CLUSTER_SECONDS` says the
same and `KVSHIM_CLUSTER_SEED` repeats the choices of a run.
"""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, Wires
from tests.cluster.member import Member
from tests.cluster.namespaces import permitted
from tests.support.datastore import Kind

SHORT_SECONDS = 8.0
SETUP_SECONDS_MAX = 150.0
FormCluster = Callable[..., Cluster]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster-seconds", type=float, help="how long each story's trouble goes on")
    parser.addoption(
        "--cluster-network",
        choices=["namespaces", "proxies"],
        help="what joins members whose network is hurt; namespaces, where they are permitted",
    )


def _seconds(config: pytest.Config) -> float:
    # This file may be read too late for its option to exist, as in `pytest tests`.
    asked = config.getoption("--cluster-seconds", None)
    return float(asked or os.environ.get("KVSHIM_CLUSTER_SECONDS") or SHORT_SECONDS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_seconds(config) + SETUP_SECONDS_MAX))
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture
def trouble_seconds(pytestconfig: pytest.Config) -> float:
    return _seconds(pytestconfig)


@pytest.fixture
def seed() -> int:
    given = int(os.environ.get("KVSHIM_CLUSTER_SEED", "0"))
    chosen = given or random.SystemRandom().randrange(1, 1 << 32)
    print(f"KVSHIM_CLUSTER_SEED={chosen}")
    return chosen


@pytest.fixture(scope="session")
def cuttable(pytestconfig: pytest.Config) -> Wires:
    """The best network here that can be cut: namespaces where they are permitted."""
    asked = pytestconfig.getoption("--cluster-network", None) or os.environ.get(
        "KVSHIM_CLUSTER_NETWORK"
    )
    if asked is not None:
        return Wires[asked.upper()]
    return Wires.NAMESPACES if permitted() else Wires.PROXIES


@pytest.fixture
def form(tmp_path: Path, pytestconfig: pytest.Config, seed: int) -> Iterator[FormCluster]:
    """Makes clusters that are formed and led; ends them after the test."""
    formed: list[Cluster] = []
    kind = Kind(pytestconfig.getoption("--datastore"))

    def make(
        count: int = 3,
        *flags: str,
        wires: Wires = Wires.LOOPBACK,
        prepare: Callable[[Member], None] = lambda _: None,
    ) -> Cluster:
        directory = tmp_path / f"cluster-{len(formed)}"
        cluster = Cluster(count, directory, *flags, kind=kind, wires=wires, seed=seed)
        formed.append(cluster)
        for member in cluster.members:
            prepare(member)
        cluster.start()
        return cluster

    yield make
    for cluster in formed:
        cluster.close()
