"""etcdserverpb.KV/RangeStream: a range in chunks bounded by bytes, all read at one revision.

Header, `more` and `count` come with the last chunk only. Each chunk is a short read of its own at
the revision of the first, so a slow client holds no snapshot open; a compaction beyond it meanwhile
ends the stream with that error, as in etcd (`server/etcdserver/v3_server.go`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from kvshim.api import validate
from kvshim.api.header import Headers
from kvshim.mvcc.encoding import encode_pair, frame
from kvshim.mvcc.ranges import RangeResult, execute_range, rows_wanted
from kvshim.mvcc.view import Chunk, ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Call, Method, ServerStream
from kvshim.server.reader import Reader
from kvshim.types import KeyRange, Revision

FIRST_CHUNK_ROWS = 10
"""Rows of the first chunk; later ones double or halve towards the size that is wanted."""

_RESPONSE_TAG = b"\x0a"
"""`RangeStreamResponse.range_response`."""


class RangeStreamService:
    """`chunk_bytes` is the size that chunks tend to. Event loop."""

    def __init__(self, reader: Reader, headers: Headers, chunk_bytes: int) -> None:
        self._reader = reader
        self._headers = headers
        self._chunk_bytes = chunk_bytes

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
        stream = await self._reader.read(lambda view: _Stream(view, request))
        rows = FIRST_CHUNK_ROWS
        reading = self._begin(stream, rows)
        while True:
            chunk = await reading
            if stream.done:
                last = stream.last(chunk).encode(self._headers.encode(stream.header_revision))
                yield frame(_RESPONSE_TAG, last)
                return
            if len(chunk) < self._chunk_bytes // 2:
                rows *= 2
            elif len(chunk) > self._chunk_bytes * 2:
                rows = max(rows // 2, 1)
            reading = self._begin(stream, rows)
            yield frame(_RESPONSE_TAG, chunk)

    def _begin(self, stream: _Stream, rows: int) -> asyncio.Future[bytes]:
        """Read the next chunk, while the one before it leaves."""
        return self._reader.begin_read(partial(stream.next, min(rows, stream.rows_left)))


class _Stream:
    """How far a stream has come. Its methods run on reader threads, one at a time."""

    def __init__(self, view: ReadView, request: rpc_pb2.RangeRequest) -> None:
        self.header_revision = view.revision
        self.rows_left = rows_wanted(request.limit)
        self.done = False
        self._at: Revision = view.readable(request.revision)
        self._keys = KeyRange.of(request.key, request.range_end)
        self._keys_only = request.keys_only
        self._sent = 0
        self._behind = 0

    def next(self, limit: int, view: ReadView) -> bytes:
        """The pairs of the next chunk. Raises `Compacted`."""
        view.readable(self._at)
        chunk = self._read(view, limit)
        self._sent += chunk.rows
        self.rows_left -= chunk.rows
        if chunk.last_key is not None:
            self._keys = KeyRange(chunk.last_key + b"\x00", self._keys.end)
        if chunk.is_last or self._keys.is_empty:
            self.done = True
        elif self.rows_left == 0:
            self.done = True
            self._behind = view.count(self._keys, self._at)
        return chunk.pairs

    def last(self, pairs: bytes) -> RangeResult:
        """The last chunk, with header, `more` and `count` of the whole stream."""
        count = self._sent + self._behind
        return RangeResult(self.header_revision, [pairs], count, more=self._behind > 0)

    def _read(self, view: ReadView, limit: int) -> Chunk:
        if not self._keys_only:
            return view.chunk(self._keys, self._at, limit)
        versions = view.bare_versions(self._keys, self._at, limit)
        pairs = [
            encode_pair(v.key, v.create_revision, v.mod_revision, v.version, b"", 0)
            for v in versions
        ]
        last_key = versions[-1].key if versions else None
        return Chunk(b"".join(pairs), len(pairs), last_key, is_last=len(pairs) < limit)
