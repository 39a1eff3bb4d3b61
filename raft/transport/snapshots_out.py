"""Snapshots that go out: each on a connection of its own, in pieces, resumed after a break.

Pieces are compressed if the receiver takes that and they get smaller, and then are larger, so that
what goes over the wire at once stays the same. Event loop; the file is read on threads.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from google_crc32c import value as crc32c

from raft.pb import peer_pb2 as pb
from raft.transport.connection import ConnectionEnded, FrameConnection, describe
from raft.transport.dialling import Dialler
from raft.transport.frames import Kind, ProtocolError, frame, parsed
from raft.transport.options import Purpose
from raft.transport.packing import packed
from raft.types import LogError, MemberId, SnapshotMeta, Term

PIECE_BYTES_MAX: Final = 1 << 20
"""Of the file, however small it becomes."""


class SnapshotOutbox:
    """Sends snapshots as one member."""

    def __init__(self, dialler: Dialler, urls_of: Callable[[MemberId], Sequence[str]]) -> None:
        self._dialler = dialler
        self._options = dialler.options
        self._urls_of = urls_of

    async def send(self, to: MemberId, term: Term, meta: SnapshotMeta, path: Path) -> None:
        """See `PeerTransport.send_snapshot`."""
        size, digest = await asyncio.to_thread(_measure, path)
        offer = pb.SnapshotOffer(
            leader_term=term,
            index=meta.index,
            term=meta.term,
            voters=sorted(meta.membership.voters),
            learners=sorted(meta.membership.learners),
            size=size,
            sha256=digest,
        )
        furthest, failures, tries = 0, 0, 0
        while True:
            transfer = _Transfer(self._dialler, offer, path)
            try:
                urls = self._urls_of(to)
                if not urls:
                    raise LogError(f"member {to:x} has no address")
                await transfer.run(urls[tries % len(urls)], to)
            except (OSError, ProtocolError) as error:
                failures = 0 if transfer.arrived > furthest else failures + 1
                if failures >= self._options.snapshot_tries:
                    raise OSError(
                        f"the snapshot for member {to:x} did not arrive: {describe(error)}"
                    ) from None
            else:
                return
            furthest = max(furthest, transfer.arrived)
            tries += 1
            longest = self._options.retry_seconds_max
            await asyncio.sleep(min(longest, self._options.retry_seconds_min * 4**failures))


class _Transfer:
    """One connection's share of a snapshot."""

    def __init__(self, dialler: Dialler, offer: pb.SnapshotOffer, path: Path) -> None:
        self._dialler = dialler
        self._options = dialler.options
        self._offer = offer
        self._path = path
        self.arrived = 0
        self._takes_zstd = False

    async def run(self, url: str, to: MemberId) -> None:
        """Raises `OSError` and `ProtocolError`, after which another try may help, `LogError`."""
        connection, _ = await self._dialler.open(url, to, Purpose.SNAPSHOT)
        try:
            connection.write(frame(Kind.SNAPSHOT_OFFER, self._offer.SerializeToString()))
            done = await self._progress(connection)
            with await asyncio.to_thread(self._path.open, "rb") as file:
                await self._send_from(connection, file, self.arrived)
            while not done:
                done = await self._progress(connection)
        finally:
            connection.finish("the snapshot has ended")

    async def _send_from(self, connection: FrameConnection, file: BinaryIO, offset: int) -> None:
        options = self._options
        clock = asyncio.get_running_loop().time
        began_at, sent = clock(), 0
        pieces = _Pieces(file, options.snapshot_chunk_bytes, compress=self._takes_zstd)
        await asyncio.to_thread(file.seek, offset)
        while offset < self._offer.size:
            body, size = await asyncio.to_thread(pieces.next, offset)
            if not size:
                raise LogError(f"{self._path} became shorter while it was sent")
            connection.write(frame(Kind.SNAPSHOT_CHUNK, body))
            offset += size
            sent += len(body)
            while offset - self.arrived > options.snapshot_window_bytes:
                await self._progress(connection)
            if options.snapshot_bytes_per_second:
                due_at = began_at + sent / options.snapshot_bytes_per_second
                await asyncio.sleep(max(0.0, due_at - clock()))

    async def _progress(self, connection: FrameConnection) -> bool:
        """Take one report of the receiver; returns whether it was the last."""
        async with asyncio.timeout(self._options.snapshot_stall_seconds):
            kind, body = await connection.receive()
        progress = parsed(pb.SnapshotProgress, kind, body, Kind.SNAPSHOT_PROGRESS)
        if progress.refusal:
            refusal = f"the receiver says: {progress.refusal}"
            raise ConnectionEnded(refusal) if progress.retry else LogError(refusal)
        self.arrived = max(self.arrived, min(progress.offset, self._offer.size))
        self._takes_zstd = progress.takes_zstd
        return progress.done


def _measure(path: Path) -> tuple[int, bytes]:
    """Size and SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.digest()


class _Pieces:
    """A file's pieces as the bodies of frames of about `wire_bytes`. Threads, one at a time."""

    def __init__(self, file: BinaryIO, wire_bytes: int, *, compress: bool) -> None:
        self._file = file
        self._wire_bytes = self._size = wire_bytes
        self._compress = compress

    def next(self, offset: int) -> tuple[bytes, int]:
        """The piece at `offset`, where the file is, and how much of the file it holds."""
        data = self._file.read(self._size)
        chunk = pb.SnapshotChunk(offset=offset, crc=crc32c(data), data=data)
        self._size = self._wire_bytes
        if self._compress and (smaller := packed(data)) is not None:
            chunk.data, chunk.zstd = smaller, True
            self._size = min(self._wire_bytes * len(data) // len(smaller), PIECE_BYTES_MAX)
        return chunk.SerializeToString(), len(data)
