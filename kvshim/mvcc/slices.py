"""Large answers in slices: the length first, then bounded pieces, never the whole in memory.

Length, revision and where slices begin come from one snapshot. Each slice is a short read of its
own at that revision, from live keys and history, so a slow client keeps no read transaction open;
the bytes are the same whatever was written or compacted since, as long as the versions are there. A
pin asks physical compaction to spare them for a while; if they are gone, the answer is broken off
with `Compacted`, never padded. Everything here blocks: a reader thread's work, by one thread at a
time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from kvshim.errors import Compacted, ResponseTooLarge, StorageError
from kvshim.mvcc.encoding import frame
from kvshim.mvcc.ranges import HEADER_TAG, RangeResult, execute_range, is_plain, measure_list
from kvshim.mvcc.view import Part
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import MESSAGE_BYTES_MAX
from kvshim.types import KeyRange, Revision

if TYPE_CHECKING:
    from kvshim.mvcc.store import Store

WHOLE_BYTES_MAX: Final = 1 << 20
"""Answers up to this length are made at once; of a longer one the first part leaves sooner."""


class SlicePlan:
    """A plain list whose length is known: `opening`, all slices and `closing` make the answer.

    Call `close` in any case.
    """

    def __init__(self, store: Store, at: Revision, parts: list[Part], result: RangeResult) -> None:
        """`result` has everything but the pairs, which the parts tell of."""
        self.revision = result.revision
        self.at = at
        self.result = result
        self.pairs_bytes = sum(part.size for part in parts)
        self._store = store
        self._parts = deque(parts)
        self._closing = result.trailer()
        self._pin: int | None = store.pins.pin(at)

    def opening(self, header: bytes) -> bytes:
        """What comes before the slices; `header` is an encoded ResponseHeader."""
        return frame(HEADER_TAG, header)

    def next_slice(self) -> bytes:
        """The next pairs, framed as RangeResponse.kvs; empty at the end. Raises `Compacted`."""
        if not self._parts:
            self.close()
            return b""
        part = self._parts.popleft()
        with self._store.read() as view:
            if not view.is_intact(self.at):
                raise Compacted
            pairs = view.pairs(part.keys, self.at)
        if len(pairs) != part.size:
            raise StorageError(f"revision {self.at} changed while it was read")
        return pairs

    def closing(self) -> bytes:
        """What comes after the pairs."""
        return self._closing

    def length(self, header: bytes) -> int:
        """Bytes of the whole RangeResponse. Raises `ResponseTooLarge`, which ends the plan."""
        length = len(self.opening(header)) + self.pairs_bytes + len(self._closing)
        if length > MESSAGE_BYTES_MAX:
            self.close()
            raise ResponseTooLarge(length, MESSAGE_BYTES_MAX)
        return length

    def close(self) -> None:
        """Let compaction go on."""
        if self._pin is not None:
            self._store.pins.release(self._pin)
            self._pin = None


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
        result, parts = measure_list(view, keys, at, request.limit)
        if sum(part.size for part in parts) > whole_bytes_max:
            return SlicePlan(store, at, parts, result)
        result.kvs = [view.pairs(part.keys, at) for part in parts]
        return result
