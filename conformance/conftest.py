"""Options and fixtures of every conformance test: which datastore is on trial."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from conformance.servers import Datastore, Kind
from conformance.summary import counted, lines, suite_of
from conformance.turns import group, rank, turn

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


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: no other test of the suites runs beside it")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first; a group stays with one worker."""
    items.sort(key=lambda item: rank(suite_of(item.nodeid)))
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            name = group(item.path, suite_of(item.nodeid))
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Before its time is counted, a test waits for its turn."""
    with turn(item):
        return (yield)


@pytest.fixture(scope="session")
def datastore_kind(request: pytest.FixtureRequest) -> Kind:
    """The server chosen on the command line."""
    return Kind(request.config.getoption("--datastore"))


@pytest.fixture
def datastore(datastore_kind: Kind, tmp_path: Path) -> Iterator[Datastore]:
    """A fresh running datastore for one test."""
    with Datastore(datastore_kind, tmp_path / "datastore") as started:
        yield started
