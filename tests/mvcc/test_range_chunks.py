"""How a streamed range is cut: into chunks that the buffers of Go's clients hold."""

from __future__ import annotations

from kvshim.api.range_stream import FIRST_CHUNK_ROWS, ChunkReader
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import LeaseID
from tests.mvcc.conftest import Driver

GO_BUFFER_BYTES = 1 << 20
FRAMES_BYTES = 64
EVERYTHING = rpc_pb2.RangeRequest(key=b"\x00", range_end=b"\x00")


def put(driver: Driver, sizes: list[int]) -> None:
    with driver.store.write() as batch:
        for number, size in enumerate(sizes):
            txn = batch.begin()
            txn.put(b"key%05d" % number, b"x" * size, LeaseID(0))
            txn.finish()


def chunks(driver: Driver) -> list[bytes]:
    """What is sent, in order; the last one comes with the count."""
    with driver.store.read() as view:
        reader = ChunkReader(view, EVERYTHING)
        found = list(iter(lambda: reader.next(view), b""))
        found.append(reader.last().encode(b""))
    return found


def rows(chunk: bytes) -> int:
    return len(rpc_pb2.RangeResponse.FromString(chunk).kvs)


def test_chunks_are_as_long_as_a_buffer_from_the_second_one_on(driver: Driver) -> None:
    put(driver, [1024] * 4000)

    first, *whole, last = chunks(driver)

    assert rows(first) == FIRST_CHUNK_ROWS
    assert len(whole) == 4
    for chunk in whole:
        assert 0.9 * GO_BUFFER_BYTES < len(chunk) < GO_BUFFER_BYTES - FRAMES_BYTES
    assert sum(map(rows, (first, *whole, last))) == 4000


def test_long_pairs_behind_short_ones_make_no_endless_chunk(driver: Driver) -> None:
    put(driver, [10] * FIRST_CHUNK_ROWS + [500_000] * 30)

    found = chunks(driver)

    assert max(map(len, found)) < 5 * GO_BUFFER_BYTES
    assert sum(map(rows, found)) == FIRST_CHUNK_ROWS + 30
