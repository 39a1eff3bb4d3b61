"""How long a soak runs and what it tells: the short form is part of every test run.

`pytest tests/soak --soak-seconds 600` is the long one; `KVSHIM_SOAK_SECONDS` says the same and
`KVSHIM_SOAK_SEED` repeats a run's choices.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.node import SoakNode

SHORT_SECONDS = 20.0
SETUP_SECONDS_MAX = 240.0
"""For loading, the last compaction and a machine that has other things to do."""

_REPORTS = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-seconds", type=float, help="how long the soak's load runs")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORTS] = []


def _seconds(config: pytest.Config) -> float:
    # This file may be read too late for its option to exist, as in `pytest tests`.
    asked = config.getoption("--soak-seconds", None)
    return float(asked or os.environ.get("KVSHIM_SOAK_SECONDS") or SHORT_SECONDS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(_seconds(config) + SETUP_SECONDS_MAX))
            # Two of these at a time would measure each other.
            item.add_marker(pytest.mark.xdist_group("soak"))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for report in config.stash.get(_REPORTS, []):
        terminalreporter.write_line(report)


@pytest.fixture
def soak_seconds(pytestconfig: pytest.Config) -> float:
    return _seconds(pytestconfig)


@pytest.fixture
def tell(pytestconfig: pytest.Config):
    """Print figures now, and again in the summary of the run when no worker process hides it."""
    reports = pytestconfig.stash.setdefault(_REPORTS, [])

    def add(text: str) -> None:
        print(text)
        reports.append(text)

    return add


@pytest.fixture
def rng() -> random.Random:
    given = int(os.environ.get("KVSHIM_SOAK_SEED", "0"))
    seed = given or random.SystemRandom().randrange(1, 1 << 32)
    print(f"KVSHIM_SOAK_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SoakNode]:
    """A kvshim process with a small `--wal-bytes-max`."""
    node = SoakNode(tmp_path)
    node.start()
    yield node
    node.stop()
