"""The two servers of a module, and a fresh pair for a test that needs one."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.build import TARGETS, build
from conformance.etcdctl.pair import Pair

MakePair = Callable[..., Pair]


@pytest.fixture(scope="package", autouse=True)
def _programs() -> None:
    for name in ("etcd", "etcdctl"):
        build(TARGETS[name])


@pytest.fixture(scope="module")
def shared(_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Tests of a module share two servers; each uses keys of its own, and the revision moves on."""
    pair = Pair(tmp_path_factory.mktemp("pair"))
    pair.start()
    yield pair
    pair.stop()


@pytest.fixture
def pair(shared: Pair) -> Pair:
    """The module's servers, known to stand at the same revision."""
    shared.revision()
    return shared


@pytest.fixture
def make_pair(_programs: None, tmp_path: Path) -> Iterator[MakePair]:
    """Starts fresh pairs with flags of their own; all are stopped at the end."""
    numbers, pairs = itertools.count(), []

    def make(*flags: str) -> Pair:
        pair = Pair(tmp_path / f"pair-{next(numbers)}", *flags)
        pair.start()
        pairs.append(pair)
        return pair

    yield make
    for pair in pairs:
        pair.stop()


@pytest.fixture
def fresh(make_pair: MakePair) -> Pair:
    """Two servers that nothing has happened to."""
    return make_pair()
