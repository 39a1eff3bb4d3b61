"""The network between members: every peer address is a proxy that can cut, delay and stall.

A member announces its proxy's address and listens elsewhere. Who dialled is found by the local port
of the connection, so that each direction of each pair has rules of its own; bytes that a cut holds
back are delivered when it heals, as TCP would, and a new connection gets no answer meanwhile.
`Links` owns one thread, with an event loop that owns every connection; rules may be set from
anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

CHUNK_BYTES = 64 * 1024
HELD_CHUNKS_MAX = 64
CLOSE_SECONDS_MAX = 5.0
RETRANSMIT_SECONDS = 0.2
"""What a lost segment costs at least: Linux's shortest retransmission timeout."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to bytes on their way from one member to another."""

    cut: bool = False
    delay_seconds: float = 0.0
    loss: float = 0.0
    """Share of the chunks that come only after a retransmission, with all behind them."""


CLEAN = Rule()
CUT = Rule(cut=True)
Way = tuple[str, str]
"""(from, to), names of members."""


class Links:
    """All proxies of a cluster; `owner` names the member that a process id belongs to."""

    def __init__(self, pids: Callable[[], dict[str, int]], seed: int) -> None:
        self._pids = pids
        self._random = random.Random(seed)
        self._rules: dict[Way, Rule] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def open(self, name: str, listen_port: int, target_port: int) -> None:
        """Begin to forward to the member `name`, which listens at the target port."""

        async def begin() -> None:
            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                await self._forward(name, target_port, reader, writer)

            self._servers.append(await asyncio.start_server(accept, "127.0.0.1", listen_port))

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(CLOSE_SECONDS_MAX)

    def set(self, ways: Iterable[Way], rule: Rule) -> None:
        """Give these ways a rule; returns once it holds."""

        async def apply() -> None:
            self._rules.update(dict.fromkeys(ways, rule))
            self._wake()

        asyncio.run_coroutine_threadsafe(apply(), self._loop).result(CLOSE_SECONDS_MAX)

    def heal(self) -> None:
        """All ways are clean again."""

        async def apply() -> None:
            self._rules.clear()
            self._wake()

        asyncio.run_coroutine_threadsafe(apply(), self._loop).result(CLOSE_SECONDS_MAX)

    def close(self) -> None:
        """End every connection and the thread."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(CLOSE_SECONDS_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS_MAX)
        self._loop.close()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _rule(self, way: Way) -> Rule:
        return self._rules.get(way, CLEAN)

    async def _open_way(self, way: Way) -> None:
        """Wait until the way is not cut."""
        while self._rule(way).cut:
            await self._changed.wait()

    def _dialler(self, port: int) -> str | None:
        """The member whose process has this local port."""
        for name, pid in self._pids().items():
            with contextlib.suppress(psutil.Error):
                for connection in psutil.Process(pid).net_connections("tcp"):
                    if connection.laddr and connection.laddr.port == port:
                        return name
        return None

    async def _forward(
        self, to: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writers = [writer]
        try:
            name = await asyncio.to_thread(self._dialler, writer.get_extra_info("peername")[1])
            if name is None:
                return
            await self._open_way((name, to))
            await self._open_way((to, name))
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(far_writer)
            there = asyncio.create_task(self._carry((name, to), reader, far_writer))
            back = asyncio.create_task(self._carry((to, name), far_reader, writer))
            try:
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (there, back):
                    task.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        except OSError:
            pass  # the member is down: its peer sees a connection that ends
        finally:
            for each in writers:
                each.transport.abort()

    async def _carry(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Bytes of one direction; ends when either side does and the way is open."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS_MAX)
        taking = asyncio.create_task(self._take(way, reader, held))
        try:
            while True:
                due, chunk = await held.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._open_way(way)
                if not chunk:
                    return
                writer.write(chunk)
                await writer.drain()
        except OSError:
            return
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _take(
        self,
        way: Way,
        reader: asyncio.StreamReader,
        held: asyncio.Queue[tuple[float, bytes]],
    ) -> None:
        while True:
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except OSError:
                chunk = b""
            rule = self._rule(way)
            lost = self._random.random() < rule.loss
            wait = rule.delay_seconds + (RETRANSMIT_SECONDS if lost else 0.0)
            await held.put((self._loop.time() + wait, chunk))
            if not chunk:
                return
