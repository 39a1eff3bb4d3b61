"""The two servers that tests share, and a fresh pair for a test that needs one."""

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


@pytest.fixture(scope="package")
def kept_pairs(
    _programs: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Pair]]:
    """One pair for all tests, unless one of them has led the two stores apart."""
    pairs: list[Pair] = []

    def in_step() -> Pair:
        if not pairs or pairs[-1].apart():
            pairs.append(Pair(tmp_path_factory.mktemp("pair")))
            pairs[-1].start()
        return pairs[-1]

    yield in_step
    for pair in pairs:
        pair.stop()


@pytest.fixture
def pair(kept_pairs: Callable[[], Pair]) -> Pair:
    """Two servers that all tests share: each uses keys of its own, and the revision moves on."""
    pair = kept_pairs()
    pair.wait_for_watchers(0)
    return pair


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
