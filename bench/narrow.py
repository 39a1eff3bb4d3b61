"""A narrow wire: a TCP proxy in front of one address that passes so many bytes a second on.

It limits what comes in from all connections together; answers pass freely. It has a process of its
own, so that the bytes it moves cost the measuring process no time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

CHUNK_BYTES = 16 << 10
BURST_SECONDS = 0.02
STARTED_SECONDS_MAX = 20.0


class Bucket:
    """When the next bytes may pass. Event loop."""

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Returns once so many may pass."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now - BURST_SECONDS) + count / self._bytes_per_second
        await asyncio.sleep(max(0.0, self._free_at - now))


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bucket: Bucket | None
) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            if bucket is not None:
                await bucket.take(len(data))
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(
    listen: int, target: int, bytes_per_second: float, started: Callable[[], None]
) -> None:
    bucket = Bucket(bytes_per_second)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass(reader, inner_writer, bucket), _pass(inner_reader, writer, None))

    server = await asyncio.start_server(connected, "127.0.0.1", listen, limit=CHUNK_BYTES)
    started()
    await server.serve_forever()


def _run(listen: int, target: int, bytes_per_second: float, started: Callable[[], None]) -> None:
    asyncio.run(_serve(listen, target, bytes_per_second, started))


@contextmanager
def narrow(listen: int, target: int, bits_per_second: float) -> Iterator[None]:
    """Both are ports on 127.0.0.1; the proxy is gone at the end of the block."""
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(
        target=_run, args=(listen, target, bits_per_second / 8, started.set), daemon=True
    )
    process.start()
    try:
        assert started.wait(STARTED_SECONDS_MAX), "the proxy does not start"
        yield
    finally:
        process.kill()
        process.join()
