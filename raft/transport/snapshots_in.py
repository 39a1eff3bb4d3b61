"""Snapshots that come in: written, verified, made durable, handed over. Event loop and threads.

Their sender is told that one has arrived when the receiver has taken it: a leader that goes on
before that asks for what is not there yet, and hears that another snapshot is needed.

What has arrived of a snapshot is kept when its connection breaks, and its sender goes on from
there. Files of an earlier run are deleted: nobody knows how much of them was good.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from google_crc32c import value as crc32c

from raft.core.messages import InstallSnapshot
from raft.pb import peer_pb2 as pb
from raft.transport.connection import FrameConnection, describe
from raft.transport.frames import Kind, frame, parsed
from raft.transport.options import Identity, Receiver, TransportOptions
from raft.transport.packing import unpacked
from raft.types import Index, LogError, MemberId, Membership, SnapshotMeta, Term

_OFFER_BYTES_MAX: Final = 64 << 10
_CHUNK_BYTES_MAX: Final = 4 << 20
_BEAT_SECONDS: Final = 1.0

_Result = TypeVar("_Result")


class Damaged(Exception):
    """A piece is not what was sent; may be sent again."""


class Part:
    """A snapshot's file while it grows. Its methods block: for threads, one at a time."""

    def __init__(self, offer: pb.SnapshotOffer, path: Path, sync_bytes: int) -> None:
        """Raises `OSError`, `LogError` when there is no room."""
        self.key = snapshot_key(offer)
        self.path = path
        self.size = offer.size
        self.offset = 0
        self._sha256 = offer.sha256
        self._digest = hashlib.sha256()
        self._sync_bytes = sync_bytes
        self._unsynced = 0
        path.unlink(missing_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        free = shutil.disk_usage(path.parent).free
        if free < self.size:
            self.discard()
            raise LogError(f"no room for the snapshot: {self.size} bytes are needed, {free} free")

    def take(self, chunk: pb.SnapshotChunk) -> None:
        """Verify and write the piece that follows. Raises `Damaged`, `OSError`."""
        data = unpacked(chunk.data, _CHUNK_BYTES_MAX) if chunk.zstd else chunk.data
        if not data or len(data) > self.size - self.offset or crc32c(data) != chunk.crc:
            raise Damaged(f"a piece of the snapshot arrived damaged at byte {self.offset}")
        self.append(data)

    def append(self, data: bytes) -> None:
        """Write what follows. Raises `OSError`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._digest.update(data)
        self.offset += len(data)
        self._unsynced += len(data)
        if self._unsynced >= self._sync_bytes:
            # In steps, or the sync at the end would hold up the log's on the same disk.
            os.fdatasync(self._file)
            self._unsynced = 0

    def complete(self) -> Path:
        """Verify the whole and make it durable; returns its final place. Raises `LogError`."""
        if self._digest.digest() != self._sha256:
            raise LogError("the snapshot arrived damaged: its SHA-256 is another")
        os.fsync(self._file)
        self._close()
        final = self.path.with_suffix(".received")
        self.path.replace(final)
        directory = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return final

    def discard(self) -> None:
        """Delete it."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class SnapshotInbox:
    """One snapshot at a time from each member."""

    def __init__(self, me: Identity, options: TransportOptions, receiver: Receiver) -> None:
        self._me = me
        self._options = options
        self._receiver = receiver
        self._parts: dict[MemberId, Part] = {}
        self._locks: dict[MemberId, asyncio.Lock] = {}

    def clean(self) -> None:
        """Make the directory and delete what an earlier run left; blocks. Raises `LogError`."""
        directory = self._options.snapshot_dir
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for pattern in ("snapshot-*.part", "snapshot-*.received"):
                for path in directory.glob(pattern):
                    path.unlink()
        except OSError as error:
            raise LogError(f"cannot use {directory}: {describe(error)}") from None

    async def stop(self) -> None:
        """Delete what is unfinished."""
        for sender in list(self._parts):
            await self._discard(sender)

    async def take(self, connection: FrameConnection, sender: MemberId) -> None:
        """Receive the snapshot that comes on a connection. Raises `OSError`, `ProtocolError`."""
        async with self._locks.setdefault(sender, asyncio.Lock()):
            connection.allow(_OFFER_BYTES_MAX)
            kind, body = await self._next(connection)
            offer = parsed(pb.SnapshotOffer, kind, body, Kind.SNAPSHOT_OFFER)
            connection.allow(_CHUNK_BYTES_MAX)
            try:
                part = await self._part(sender, offer)
                _tell(connection, offset=part.offset)
                await self._fill(connection, part)
                path = await self._complete(connection, part)
                del self._parts[sender]
                taking = self._receiver.snapshot_received(self._message(sender, offer), path)
                await self._beating(connection, part.size, taking)
            except Damaged as error:
                _tell(connection, refusal=str(error), retry=True)
                await connection.part(str(error))
                return
            except LogError as error:
                await self._discard(sender)
                _tell(connection, refusal=str(error))
                await connection.part(str(error))
                return
            _tell(connection, offset=part.size, done=True)
            connection.finish("the snapshot is complete")
        await self._discard_others()

    async def _part(self, sender: MemberId, offer: pb.SnapshotOffer) -> Part:
        part = self._parts.get(sender)
        if part is not None and part.key == snapshot_key(offer):
            return part
        await self._discard(sender)
        if not 0 < offer.index < 1 << 63 or offer.size > self._options.snapshot_bytes_max:
            raise LogError(f"a snapshot of {offer.size} bytes at {offer.index} is not taken")
        path = self._options.snapshot_dir / f"snapshot-{sender:016x}-{offer.index}.part"
        try:
            part = await asyncio.to_thread(Part, offer, path, self._options.snapshot_sync_bytes)
        except OSError as error:
            raise LogError(f"the snapshot cannot be stored: {describe(error)}") from None
        self._parts[sender] = part
        return part

    async def _complete(self, connection: FrameConnection, part: Part) -> Path:
        try:
            return await self._on_thread(connection, part.offset, part.complete)
        except OSError as error:  # after a failed fsync nothing of the file can be trusted
            raise LogError(f"the snapshot cannot be stored: {describe(error)}") from None

    async def _fill(self, connection: FrameConnection, part: Part) -> None:
        while part.offset < part.size:
            kind, body = await self._next(connection)
            chunk = parsed(pb.SnapshotChunk, kind, body, Kind.SNAPSHOT_CHUNK)
            if chunk.offset != part.offset:
                raise Damaged(f"a piece of the snapshot is missing at byte {part.offset}")
            try:
                await self._on_thread(connection, part.offset, partial(part.take, chunk))
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                reason = "no room left" if full else describe(error)
                raise LogError(f"the snapshot cannot be stored: {reason}") from None
            _tell(connection, offset=part.offset)

    async def _on_thread(
        self, connection: FrameConnection, offset: int, work: Callable[[], _Result]
    ) -> _Result:
        return await self._beating(connection, offset, asyncio.to_thread(work))

    async def _beating(
        self, connection: FrameConnection, offset: int, work: Coroutine[Any, Any, _Result]
    ) -> _Result:
        """Wait for slow work to its end, whatever happens, and tell the sender that we live."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait((task,), timeout=_BEAT_SECONDS))[0]:
                _tell(connection, offset=offset)
        except asyncio.CancelledError:
            await asyncio.wait((task,))
            raise
        return task.result()

    async def _next(self, connection: FrameConnection) -> tuple[int, bytes]:
        async with asyncio.timeout(2 * self._options.snapshot_stall_seconds):
            return await connection.receive()

    def _message(self, sender: MemberId, offer: pb.SnapshotOffer) -> InstallSnapshot:
        membership = Membership.of(offer.voters, offer.learners)
        meta = SnapshotMeta(Index(offer.index), Term(offer.term), membership)
        return InstallSnapshot(sender, MemberId(self._me.member_id), Term(offer.leader_term), meta)

    async def _discard(self, sender: MemberId) -> None:
        part = self._parts.pop(sender, None)
        if part is not None:
            await asyncio.to_thread(part.discard)

    async def _discard_others(self) -> None:
        """A whole snapshot has come: the halves that others left are of no use."""
        for sender in list(self._parts):
            if not self._locks[sender].locked():
                await self._discard(sender)


def snapshot_key(offer: pb.SnapshotOffer) -> tuple[int, int, int, bytes]:
    """What makes a snapshot the same one."""
    return offer.index, offer.term, offer.size, offer.sha256


def _tell(
    connection: FrameConnection,
    *,
    offset: int = 0,
    done: bool = False,
    refusal: str = "",
    retry: bool = False,
) -> None:
    progress = pb.SnapshotProgress(
        offset=offset, done=done, refusal=refusal, retry=retry, takes_zstd=True
    )
    connection.write(frame(Kind.SNAPSHOT_PROGRESS, progress.SerializeToString()))
