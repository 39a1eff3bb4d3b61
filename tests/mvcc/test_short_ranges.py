"""What the event loop reads by itself is short, whatever a client asks for."""

from __future__ import annotations

import pytest

from kvshim.errors import Compacted, FutureRevision
from kvshim.mvcc.ranges import FEW_BYTES, FEW_KEYS, execute_range, execute_short_range
from kvshim.pb.etcd import rpc_pb2
from tests.mvcc.conftest import Driver

ALL = {"key": b"key", "range_end": b"kez"}


def short(driver: Driver, **fields: object) -> rpc_pb2.RangeResponse | None:
    """The answer, compared with that of a reader thread, or None."""
    request = rpc_pb2.RangeRequest(**fields)
    with driver.store.read() as view:
        result = execute_short_range(view, request)
        if result is None:
            return None
        expected = execute_range(view, request)
    assert result.message() == expected.message()
    assert result.returned == expected.returned
    return result.message()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"limit": 3},
        {"limit": FEW_KEYS},
        {"count_only": True},
        {"keys_only": True, "sort_order": rpc_pb2.RangeRequest.DESCEND},
        {"min_mod_revision": 4},
    ],
)
def test_few_keys_are_short_with_every_option_and_one_more_is_not(
    driver: Driver, options: dict[str, object]
) -> None:
    for number in range(FEW_KEYS):
        driver.put(b"key%04d" % number, b"v")
    answer = short(driver, **ALL, **options)
    assert answer is not None
    assert answer.count == FEW_KEYS
    driver.put(b"key9999", b"v")
    assert short(driver, **ALL, **options) is None
    assert short(driver, key=b"key9999") is not None


def test_long_values_are_not_short(driver: Driver) -> None:
    driver.put(b"key0", b"v" * FEW_BYTES)
    driver.put(b"key1", b"v")
    assert short(driver, **ALL) is None
    assert short(driver, key=b"key0") is not None


def test_at_a_revision_only_one_key_is_short(driver: Driver) -> None:
    driver.put(b"key0", b"old")
    then = driver.store.revision
    driver.put(b"key0", b"new")
    assert short(driver, **ALL, revision=then) is None
    assert short(driver, key=b"key0", revision=then).kvs[0].value == b"old"


def test_revisions_that_cannot_be_read_are_refused_at_once(driver: Driver) -> None:
    driver.put(b"key0", b"old")
    driver.put(b"key0", b"new")
    driver.compact(3)
    with pytest.raises(Compacted):
        short(driver, key=b"key0", revision=2)
    with pytest.raises(FutureRevision):
        short(driver, key=b"key0", revision=9)
