"""Snapshots for clients: etcd's file of the whole store, written beside it and sent.

The file has no name, so nothing is left of it when the client goes or the process dies. It takes
about as much room as the store, which is why there are few at a time, none that would fill the
disk, and none for a client that has stopped reading. Written and read in steps on the reader
threads, so that lists go on in between. Event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar, cast

from kvshim.backend.backups import BackupRecord, note_backup
from kvshim.errors import (
    Compacted,
    SnapshotFailed,
    SnapshotNeedsRoom,
    StorageError,
    TooManyRequests,
)
from kvshim.exchange.export import Export
from kvshim.logs import Event, Logger
from kvshim.mvcc.store import Store
from kvshim.server.reader import Reader

_T = TypeVar("_T")

SNAPSHOTS_MAX: Final = 2
STALL_SECONDS_MAX: Final = 60.0
"""After so long without reading a client loses its snapshot, and the disk has its room again."""

SPARE_BYTES: Final = 64 << 20
"""Room that snapshots leave to the store itself, which stops the node when it has none."""

_READ_BYTES: Final = 1 << 20


class Snapshots:
    """Sends snapshots; `store_bytes` is about how long one will be."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        directory: Path,
        store_bytes: Callable[[], int],
        logger: Logger,
    ) -> None:
        self._store = store
        self._reader = reader
        self._directory = directory
        self._store_bytes = store_bytes
        self._logger = logger
        self._under_way = 0

    async def send(self, piece_bytes: int, to: str) -> AsyncGenerator[tuple[bytes, int], None]:
        """Pieces, each with how many bytes come behind it; the last one is the SHA-256 of all.

        Whoever takes all of them has a backup, which is noted as sent `to` that client.

        Raises `TooManyRequests`, `SnapshotNeedsRoom`, `SnapshotFailed`.
        """
        if self._under_way >= SNAPSHOTS_MAX:
            raise TooManyRequests
        self._under_way += 1
        file: _File | None = None
        try:
            began = time.monotonic()
            handle = await self._reader.on_thread(self._new_file)
            file = _File(handle, self._reader, self._ended)
            length, revision = await self._write(file)
            self._logger.info(Event.SNAPSHOT_SENDING, bytes=length, revision=revision)
            async for piece in self._pieces(file, length, piece_bytes):
                yield piece
            record = BackupRecord(time.time(), "snapshot", f"sent to {to}", revision)
            with suppress(StorageError):  # the backup is good, whether or not that is noted
                await file.work(lambda: note_backup(self._directory, record))
            self._logger.info(
                Event.SNAPSHOT_SAVED, bytes=length, took_seconds=round(time.monotonic() - began, 3)
            )
        except Compacted:
            raise SnapshotFailed("the store was compacted meanwhile") from None
        except OSError as error:
            raise SnapshotFailed(error.strerror or str(error)) from error
        finally:
            if file is None:
                self._ended()
            else:
                file.close()

    def _new_file(self) -> BinaryIO:
        self._check_room(self._store_bytes())
        return tempfile.TemporaryFile(dir=self._directory)

    async def _write(self, file: _File) -> tuple[int, int]:
        export = Export(self._store, file.handle)

        def step() -> bool:
            more = export.step()
            self._check_room(0)
            return more

        try:
            while await file.work(step):
                pass
        finally:
            export.close()
        return export.bytes_total, export.revision

    async def _pieces(
        self, file: _File, length: int, piece_bytes: int
    ) -> AsyncIterator[tuple[bytes, int]]:
        digest = hashlib.sha256()
        sent = 0

        def read() -> bytes:
            data = os.pread(file.handle.fileno(), _READ_BYTES, sent)
            digest.update(data)
            return data

        while sent < length:
            data = await file.work(read)
            for begin in range(0, len(data), piece_bytes):
                piece = data[begin : begin + piece_bytes]
                sent += len(piece)
                file.wait_for_client()
                yield piece, length - sent
        yield digest.digest(), 0

    def _check_room(self, wanted_bytes: int) -> None:
        found = os.statvfs(self._directory)
        free = found.f_bavail * found.f_frsize
        if free < wanted_bytes + SPARE_BYTES:
            raise SnapshotNeedsRoom(wanted_bytes + SPARE_BYTES, free)

    def _ended(self) -> None:
        self._under_way -= 1


class _File:
    """A file without a name, closed once: behind the work on it, or when nobody reads any more.

    Closed on a thread, as all work on it: giving back the room of a large file takes a while.
    """

    def __init__(self, handle: BinaryIO, reader: Reader, on_closed: Callable[[], None]) -> None:
        self.handle = handle
        self._reader = reader
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._working: asyncio.Future[object] | None = None
        self._closing: asyncio.Future[None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    async def work(self, function: Callable[[], _T]) -> _T:
        """Run a function that uses the file on a reader thread."""
        self._end_patience()
        if self._closing is not None:
            raise SnapshotFailed(f"the client read nothing for {STALL_SECONDS_MAX:.0f} seconds")
        working = asyncio.ensure_future(self._reader.on_thread(function))
        self._working = cast("asyncio.Future[object]", working)
        return await asyncio.shield(working)

    def wait_for_client(self) -> None:
        """A piece is about to be sent."""
        self._end_patience()
        self._patience = self._loop.call_later(STALL_SECONDS_MAX, self.close)

    def close(self) -> None:
        """Give the room back. A thread at work may not lose the file under its hands."""
        self._end_patience()
        if self._working is not None and not self._working.done():
            self._working.add_done_callback(self._close_behind)
        elif self._closing is None:
            self._closing = asyncio.ensure_future(self._reader.on_thread(self.handle.close))
            self._closing.add_done_callback(self._closed)

    def _close_behind(self, working: asyncio.Future[object]) -> None:
        if not working.cancelled():
            working.exception()  # nobody waits for it any more
        self.close()

    def _closed(self, closing: asyncio.Future[None]) -> None:
        if closing.cancelled() or closing.exception():  # the node stops
            self.handle.close()
        self._on_closed()

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
