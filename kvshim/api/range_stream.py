"""etcdserverpb.KV/RangeStream: a range in chunks bounded by bytes, all read at one revision.

Header, `more` and `count` come with the last chunk only. Each chunk is a short read of its own at
the revision of the first, so a slow client holds no snapshot open; a compaction beyond it meanwhile
ends the stream with that error, as in etcd (`server/etcdserver/v3_server.go`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from kvshim.api import validate
from kvshim.api.header import Headers
from kvshim.mvcc.encoding import encode_pair, frame
from kvshim.mvcc.ranges import RangeResult, execute_range, rows_wanted
from kvshim.mvcc.view import Chunk, Extent, ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Call, Method, ServerStream
from kvshim.server.reader import Reader
from kvshim.types import KeyRange, Revision

FIRST_CHUNK_ROWS = 10

CHUNK_BYTES = 1_000_000
"""What a chunk tends to, by the length of the pairs in the one before it. With what frames it that
is a little below 1 MiB, the largest buffer that grpc-go keeps to use again: for chunks of 1.4 MB,
as etcd's are, its clients take two fifths more CPU."""

_RESPONSE_TAG = b"\x0a"
"""`RangeStreamResponse.range_response`."""


class RangeStreamService:
    """Event loop."""

    def __init__(self, reader: Reader, headers: Headers) -> None:
        self._reader = reader
        self._headers = headers

    def methods(self) -> list[Method]:
        """The service's table."""
        path = "/etcdserverpb.KV/RangeStream"
        return [ServerStream(path, rpc_pb2.RangeRequest, self.range_stream)]

    async def range_stream(
        self, request: rpc_pb2.RangeRequest, _call: Call
    ) -> AsyncIterator[bytes]:
        """Stream a range."""
        validate.check_range_stream(request)
        if not request.serializable:
            await self._reader.linearizable()
        if request.count_only or request.sort_target != request.KEY:
            # A count is one chunk. So is what a target without an order sorts: etcd sorts each
            # chunk for itself, which is right only while there is one.
            result = await self._reader.read(lambda view: execute_range(view, request))
            result.more = result.more and not request.count_only
            yield frame(_RESPONSE_TAG, result.encode(self._headers.encode(result.revision)))
            return
        async for chunk in self._chunks(request):
            yield chunk

    async def _chunks(self, request: rpc_pb2.RangeRequest) -> AsyncIterator[bytes]:
        stream = await self._reader.read(lambda view: ChunkReader(view, request))
        ahead = self._reader.read_ahead(stream.next)
        while chunk := await ahead.next():
            yield frame(_RESPONSE_TAG, chunk)
        last = stream.last().encode(self._headers.encode(stream.header_revision))
        yield frame(_RESPONSE_TAG, last)


class ChunkReader:
    """How far a stream has come. Its methods run on reader threads, one at a time."""

    def __init__(self, view: ReadView, request: rpc_pb2.RangeRequest) -> None:
        self.header_revision = view.revision
        self._rows_left = rows_wanted(request.limit)
        self._at: Revision = view.readable(request.revision)
        self._keys = KeyRange.of(request.key, request.range_end)
        self._keys_only = request.keys_only
        self._rows_next = FIRST_CHUNK_ROWS
        self._last_pairs = b""
        self._sent = 0
        self._behind = 0

    def next(self, view: ReadView) -> bytes:
        """The pairs of the next chunk; empty when it is the last one. Raises `Compacted`."""
        view.readable(self._at)
        pairs, extent = self._read(view, min(self._rows_next, self._rows_left))
        self._sent += extent.rows
        self._rows_left -= extent.rows
        if extent.last_key is not None:
            self._keys = self._keys.behind(extent.last_key)
        if not (extent.is_last or self._keys.is_empty):
            if self._rows_left > 0:
                self._rows_next = max(extent.rows * CHUNK_BYTES // extent.size, 1)
                return pairs
            self._behind = view.count(self._keys, self._at)
        self._last_pairs = pairs
        return b""

    def last(self) -> RangeResult:
        """The last chunk, with header, `more` and `count` of the whole stream."""
        count = self._sent + self._behind
        pairs = [self._last_pairs]
        return RangeResult(self.header_revision, pairs, count, more=self._behind > 0)

    def _read(self, view: ReadView, limit: int) -> Chunk:
        if not self._keys_only:
            return view.chunk(self._keys, self._at, limit)
        versions = view.bare_versions(self._keys, self._at, limit)
        pairs = [
            encode_pair(v.key, v.create_revision, v.mod_revision, v.version, b"", 0)
            for v in versions
        ]
        last_key = versions[-1].key if versions else None
        joined = b"".join(pairs)
        extent = Extent(len(joined), len(pairs), last_key, is_last=len(pairs) < limit)
        return Chunk(joined, extent)
