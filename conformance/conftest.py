"""Options and fixtures of every conformance test: which datastore is on trial."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.servers import Datastore, Kind


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--datastore=etcd` runs a story on etcd itself, to show that the story is right."""
    parser.addoption(
        "--datastore",
        choices=[kind.value for kind in Kind],
        default=Kind.KVSHIM.value,
        help="the server on trial; etcd shows that the test itself is right",
    )


@pytest.fixture(scope="session")
def datastore_kind(request: pytest.FixtureRequest) -> Kind:
    """The server chosen on the command line."""
    return Kind(request.config.getoption("--datastore"))


@pytest.fixture
def datastore(datastore_kind: Kind, tmp_path: Path) -> Iterator[Datastore]:
    """A fresh running datastore for one test."""
    with Datastore(datastore_kind, tmp_path / "datastore") as started:
        yield started
