"""Servers and clients for the API stories.

One server serves the whole session, each test under a key prefix of its own. What needs an empty
store, a compaction from the start or other flags takes a process of its own.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.datastore import Datastore, Kind, running
from tests.support.grpc_client import EtcdClient, WatchStream

Launch = Callable[..., EtcdClient]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # Tests of one file share servers, so parallel workers take whole files.
            item.add_marker(pytest.mark.xdist_group(item.path.name))
    if config.getoption("--datastore") == Kind.KVSHIM.value:
        return
    skip = pytest.mark.skip(reason="kvshim only")
    for item in items:
        if item.get_closest_marker("kvshim_only"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def kind(pytestconfig: pytest.Config) -> Kind:
    return Kind(pytestconfig.getoption("--datastore"))


@pytest.fixture(scope="session")
def server(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Datastore]:
    """The shared server, with etcd's default flags."""
    with running(kind, tmp_path_factory.mktemp("shared")) as store:
        yield store


@pytest.fixture(scope="session")
def etcd(server: Datastore) -> Iterator[EtcdClient]:
    """A client of the shared server."""
    client = EtcdClient(server.target)
    yield client
    client.close()


@pytest.fixture
def stream(etcd: EtcdClient) -> Iterator[WatchStream]:
    """A new Watch stream on the shared server."""
    with etcd.watch_stream() as stream:
        yield stream


@pytest.fixture
def _http(pytestconfig: pytest.Config) -> None:
    """For stories that speak HTTP on the client port."""
    if pytestconfig.getoption("--transport") == "grpcio":
        pytest.skip("grpc.aio serves no HTTP")


_numbers = itertools.count(1)


@pytest.fixture
def prefix() -> bytes:
    """A key prefix that no other test of this session uses."""
    return b"t%d/" % next(_numbers)


@pytest.fixture(scope="module")
def launch(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Start a server of one's own with these flags; it lives until the module ends."""
    undo: list[Callable[[], object]] = []

    def start(*flags: str) -> EtcdClient:
        context = running(kind, tmp_path_factory.mktemp("own"), *flags)
        store = context.__enter__()
        undo.append(lambda: context.__exit__(None, None, None))
        client = EtcdClient(store.target)
        undo.append(client.close)
        return client

    yield start
    for step in reversed(undo):
        step()


@pytest.fixture
def fresh(launch: Launch) -> EtcdClient:
    """A client of an empty store: revision 1, nothing compacted, no lease, no alarm."""
    return launch()
