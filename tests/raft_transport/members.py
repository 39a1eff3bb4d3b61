"""Transports on loopback, a receiver that remembers, and a proxy that can cut the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raft.core.messages import AppendRequest, Heartbeat, InstallSnapshot, Message
from raft.transport import Identity, PeerTransport, Purpose, TransportHooks, TransportOptions
from raft.types import Entry, Index, LogError, MemberId, Term

CLUSTER = 0xC1


class Inbox:
    """Remembers what came in; `until` waits for a condition on it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.lost: list[MemberId] = []
        self.snapshots: list[tuple[InstallSnapshot, Path]] = []
        self.taking = asyncio.Event()
        self.taking.set()
        self.refusal = ""
        self.changed = asyncio.Event()

    def received(self, messages: Sequence[Message]) -> None:
        self.messages += messages
        self.changed.set()

    def unreachable(self, member: MemberId) -> None:
        self.lost.append(member)
        self.changed.set()

    async def snapshot_received(self, message: InstallSnapshot, path: Path) -> None:
        self.snapshots.append((message, path))
        self.changed.set()
        await self.taking.wait()
        if self.refusal:
            raise LogError(self.refusal)

    async def until(self, condition: Callable[[], Any], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Notes(TransportHooks):
    """Remembers what an operator would be told."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.failures: list[str] = []
        self.ends: list[str] = []
        self.changed = asyncio.Event()

    def refused(self, address: str, reason: str) -> None:
        self.refusals.append(reason)
        self.changed.set()

    def unreachable(self, member: MemberId, address: str, reason: str) -> None:
        self.failures.append(reason)
        self.changed.set()

    def disconnected(self, member: MemberId, purpose: Purpose, reason: str) -> None:
        self.ends.append(reason)
        self.changed.set()

    async def until(self, condition: Callable[[], Any], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@dataclass
class Host:
    """A member with its transport."""

    transport: PeerTransport
    inbox: Inbox
    notes: Notes
    port: int
    url: str
    directory: Path
    stopped: bool = field(default=False)

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.transport.stop()


async def host(
    member: int,
    directory: Path,
    *,
    cluster: int = CLUSTER,
    port: int = 0,
    tls: bool = False,
    **changes: Any,
) -> Host:
    """A started member that knows nobody."""
    inbox, notes = Inbox(), Notes()
    options = replace(
        TransportOptions(directory / f"{member}"), ping_seconds=0.1, dead_seconds=0.6, **changes
    )
    transport = PeerTransport(Identity(cluster, member), inbox, options=options, hooks=notes)
    [(_, bound)] = transport.bind([("127.0.0.1", port, tls)])
    await transport.start()
    url = f"http{'s' if tls else ''}://127.0.0.1:{bound}"
    return Host(transport, inbox, notes, bound, url, directory / f"{member}")


@asynccontextmanager
async def hosts(*members: Host) -> AsyncIterator[list[Host]]:
    """Stops them at the end."""
    try:
        yield list(members)
    finally:
        for member in members:
            await member.stop()


def append(first: int, count: int = 1, size: int = 10, to: int = 2) -> AppendRequest:
    """From member 1, in term 5."""
    entries = tuple(
        Entry(Index(index), Term(5), index.to_bytes(8, "big") + bytes(size))
        for index in range(first, first + count)
    )
    return AppendRequest(
        MemberId(1), MemberId(to), Term(5), Index(first - 1), Term(5), entries, Index(0)
    )


def heartbeat(number: int, to: int = 2) -> Heartbeat:
    """From member 1, in term 5."""
    return Heartbeat(MemberId(1), MemberId(to), Term(5), Index(7), number)


class Wire:
    """A TCP proxy to a port, which may stop forwarding, cut, or flip a byte on the way there."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.forwarded = 0
        self.connections = 0
        self.cut_after: int | None = None
        self.flip_at: int | None = None
        self.bytes_per_second: int | None = None

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()

    def hold(self) -> None:
        """Forward nothing, close nothing: as a network that lost its way."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def idle(self) -> None:
        """Wait until all connections have ended and all they held has gone over."""
        await asyncio.wait(self._tasks)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(back)
        ways = [
            asyncio.create_task(self._pump(reader, back, counted=True)),
            asyncio.create_task(self._pump(there, writer, counted=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            back.close()
        finally:
            for way in ways:
                way.cancel()
            writer.transport.abort()
            back.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        try:
            while data := await reader.read(65_536):
                await self._flowing.wait()
                if self.bytes_per_second:
                    await asyncio.sleep(len(data) / self.bytes_per_second)
                if counted:
                    start, self.forwarded = self.forwarded, self.forwarded + len(data)
                    if self.flip_at is not None and start <= self.flip_at < self.forwarded:
                        broken = bytearray(data)
                        broken[self.flip_at - start] ^= 1
                        data, self.flip_at = bytes(broken), None
                    if self.cut_after is not None and self.forwarded > self.cut_after:
                        self.cut_after = None
                        return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
