"""Options and fixtures of every conformance test: which datastore is on trial."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.servers import Datastore, Kind
from conformance.summary import counted, lines

USERS = Path(__file__).resolve().parent / "users"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--datastore=etcd` runs a story on etcd itself, to show that the story is right."""
    parser.addoption("--users", action="store_true", help="run conformance/users too")
    parser.addoption(
        "--datastore",
        choices=[kind.value for kind in Kind],
        default=Kind.KVSHIM.value,
        help="the server on trial; etcd shows that the test itself is right",
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """A line for each suite, with the checks that each datastore passed."""
    stats = terminalreporter.stats
    outcomes = ("passed", "failed", "error", "skipped")
    reports = [report for outcome in outcomes for report in stats.get(outcome, [])]
    table = counted(
        [report for report in reports if isinstance(report, pytest.TestReport)],
        Kind(config.getoption("--datastore")),
    )
    if table:
        terminalreporter.section("suites")
        for line in lines(table):
            terminalreporter.write_line(line)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`conformance/users` takes minutes and programs from Debian: only if asked for."""
    inside = collection_path == USERS or USERS in collection_path.parents
    return True if inside and not config.getoption("--users") else None


@pytest.fixture(scope="session")
def datastore_kind(request: pytest.FixtureRequest) -> Kind:
    """The server chosen on the command line."""
    return Kind(request.config.getoption("--datastore"))


@pytest.fixture
def datastore(datastore_kind: Kind, tmp_path: Path) -> Iterator[Datastore]:
    """A fresh running datastore for one test."""
    with Datastore(datastore_kind, tmp_path / "datastore") as started:
        yield started
