"""Large answers in slices: the length first, then bounded pieces, never the whole in memory.

Length and revision come from one snapshot. Each slice is a short read of its own at that revision,
from live keys and history, so a slow client keeps no read transaction open; the bytes are the same
whatever was written or compacted since, as long as the versions are there. A pin asks physical
compaction to spare them for a while; if they are gone, the answer is broken off with `Compacted`,
never padded. Everything here blocks: a reader thread's work, by one thread at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvshim.errors import Compacted, ResponseTooLarge, StorageError
from kvshim.mvcc.encoding import frame
from kvshim.mvcc.ranges import (
    HEADER_TAG,
    RangeResult,
    count_behind,
    execute_range,
    is_plain,
    remaining,
    rows_wanted,
)
from kvshim.mvcc.view import Chunk, ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import MESSAGE_BYTES_MAX
from kvshim.types import KeyRange, Revision

if TYPE_CHECKING:
    from kvshim.mvcc.store import Store

WHOLE_BYTES_MAX: Final = 1 << 20
"""Answers up to this length are made at once; of a longer one the first part leaves sooner."""


class SlicePlan:
    """A plain list whose length is known: its parts are `opening`, all slices, `closing`.

    `opening` has what was read to begin with, so that it leaves while the next slice is read.

    `next_slice` gives pairs framed as RangeResponse.kvs. Call `close` in any case.
    """

    def __init__(
        self,
        store: Store,
        keys: KeyRange,
        at: Revision,
        first: list[Chunk],
        *,
        result: RangeResult,
        pairs_bytes: int,
    ) -> None:
        """`first` was read already; `result` has everything but the pairs."""
        self.revision = result.revision
        self.at = at
        self.count = result.count
        self.more = result.more
        self.returned = result.returned
        self.pairs_bytes = pairs_bytes
        self._store = store
        self._keys = keys
        self._first = [chunk.pairs for chunk in first]
        self._rows_left = result.returned
        self._bytes_left = pairs_bytes
        self._closing = result.trailer()
        self._rows_next = 1
        for chunk in first:
            self._pass(chunk)
        self._pin: int | None = store.pins.pin(at)

    def opening(self, header: bytes) -> list[bytes]:
        """What comes before the slices, given once; `header` is an encoded ResponseHeader."""
        first, self._first = self._first, []
        return [frame(HEADER_TAG, header), *first]

    def closing(self) -> bytes:
        """What comes after the pairs."""
        return self._closing

    def length(self, header: bytes) -> int:
        """Bytes of the whole RangeResponse. Raises `ResponseTooLarge`, which ends the plan."""
        length = len(frame(HEADER_TAG, header)) + self.pairs_bytes + len(self._closing)
        if length > MESSAGE_BYTES_MAX:
            self.close()
            raise ResponseTooLarge(length, MESSAGE_BYTES_MAX)
        return length

    def next_slice(self) -> bytes:
        """The next pairs, about a MiB of them; empty at the end. Raises `Compacted`."""
        if self._rows_left == 0:
            self.close()
            return b""
        chunk = self._read()
        self._pass(chunk)
        if self._rows_left == 0 and self.more:
            self._store.counts.put(self._keys, self.at, self.count - self.returned)
        return chunk.pairs

    def close(self) -> None:
        """Let compaction go on."""
        if self._pin is not None:
            self._store.pins.release(self._pin)
            self._pin = None

    def _pass(self, chunk: Chunk) -> None:
        """The chunk is the client's: go on behind it."""
        if chunk.last_key is None or len(chunk.pairs) > self._bytes_left:
            raise StorageError(f"revision {self.at} changed while it was read")
        self._rows_left -= chunk.rows
        self._bytes_left -= len(chunk.pairs)
        self._keys = KeyRange(chunk.last_key + b"\x00", self._keys.end)
        self._rows_next = chunk.rows_for_next

    def _read(self) -> Chunk:
        with self._store.read() as view:
            if not view.is_intact(self.at):
                raise Compacted
            return view.chunk(self._keys, self.at, min(self._rows_left, self._rows_next))


def open_range(
    store: Store, request: rpc_pb2.RangeRequest, whole_bytes_max: int = WHOLE_BYTES_MAX
) -> RangeResult | SlicePlan:
    """Answer a range whole if it is short or not a plain list, else plan its slices.

    Raises `Compacted`, `FutureRevision`.
    """
    with store.read() as view:
        keys = KeyRange.of(request.key, request.range_end)
        if keys.is_single or not is_plain(request):
            return execute_range(view, request)
        at = view.readable(request.revision)
        return _open_list(store, view, keys, at, request.limit, whole_bytes_max)


def _open_list(  # noqa: PLR0917
    store: Store, view: ReadView, keys: KeyRange, at: Revision, limit: int, whole_bytes_max: int
) -> RangeResult | SlicePlan:
    chunks: list[Chunk] = []
    size = returned = 0
    for chunk in view.chunks(keys, at, rows_wanted(limit)):
        chunks.append(chunk)
        size += len(chunk.pairs)
        returned += chunk.rows
        if size > whole_bytes_max:
            break
    last_key = chunks[-1].last_key
    rest_size = rest_rows = 0
    if size > whole_bytes_max and last_key is not None:
        rest = KeyRange(last_key + b"\x00", keys.end)
        rest_size, rest_rows = view.size(rest, at, rows_wanted(limit) - returned)
    if rest_rows == 0:
        behind = count_behind(view, keys, at, limit, returned, last_key)
        pairs = [chunk.pairs for chunk in chunks]
        return RangeResult(
            view.revision, pairs, returned + behind, more=behind > 0, returned=returned
        )
    returned += rest_rows
    behind = remaining(view, keys, at) - returned if returned == limit else 0
    result = RangeResult(view.revision, [], returned + behind, more=behind > 0, returned=returned)
    return SlicePlan(store, keys, at, chunks, result=result, pairs_bytes=size + rest_size)
