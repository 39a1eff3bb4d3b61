"""Connections from other nodes: accepted, asked who they are, given to whom they are for.

Event loop. Connections that are not a member's are few at any time: the oldest of them makes room,
so that a flood of strangers keeps no member out.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raft.transport.calls import CallServer
from raft.transport.clients import ClientInlet
from raft.transport.codec import decode
from raft.transport.connection import FrameConnection, describe
from raft.transport.dialling import ended_within
from raft.transport.frames import Frame, ProtocolError
from raft.transport.handshake import admit
from raft.transport.options import (
    STRANGER,
    Hello,
    Identity,
    Purpose,
    Receiver,
    TransportHooks,
    TransportOptions,
)
from raft.transport.pace import Pace
from raft.types import LogError, MemberId


class SnapshotTaker(Protocol):
    """Who takes connections that carry a snapshot."""

    async def take(self, connection: FrameConnection, sender: MemberId) -> None:
        """Receive what comes on it; the connection is closed afterwards."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A claimed port."""

    sock: socket.socket
    tls: bool

    @property
    def address(self) -> tuple[str, int]:
        """What it listens on: the port that port 0 became."""
        host, port = self.sock.getsockname()[:2]
        return host, port


def claim(addresses: Sequence[tuple[str, int, bool]], options: TransportOptions) -> list[Listener]:
    """Listen on all addresses, or on none. Raises `LogError`."""
    listeners: list[Listener] = []
    try:
        for host, port, tls in addresses:
            if tls and options.server_tls is None:
                raise LogError(f"https://{host}:{port} needs TLS, for which there is no key")
            listeners.append(Listener(_listen(host, port), tls))
    except BaseException:
        for listener in listeners:
            listener.sock.close()
        raise
    return listeners


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, where = found[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise LogError(f"cannot listen for peers on {host}:{port}: {describe(error)}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host not in ("", "::")))
        sock.bind(where)
        sock.listen(256)
        sock.settimeout(0)
    except OSError as error:
        sock.close()
        raise LogError(f"cannot listen for peers on {host}:{port}: {describe(error)}") from None
    return sock


class Acceptor:
    """All listeners, and every connection that came in."""

    def __init__(  # noqa: PLR0917
        self,
        me: Identity,
        options: TransportOptions,
        receiver: Receiver,
        calls: CallServer,
        snapshots: SnapshotTaker,
        clients: ClientInlet,
        hooks: TransportHooks,
    ) -> None:
        self._me = me
        self._options = options
        self._receiver = receiver
        self._calls = calls
        self._snapshots = snapshots
        self._clients = clients
        self._hooks = hooks
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: OrderedDict[object, asyncio.Task[None]] = OrderedDict()
        self._current: dict[tuple[MemberId, Purpose], FrameConnection] = {}
        self._calling: dict[FrameConnection, MemberId] = {}
        self._open = 0
        self._pace = Pace(options.handshakes)

    def start(self, listeners: Sequence[Listener]) -> None:
        """Accept from now on."""
        for listener in listeners:
            self._spawn(self._accept(listener))

    async def stop(self) -> None:
        """Close all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self, member: MemberId) -> None:
        """Close what came from a member that is one no more."""
        current = [(sender, connection) for (sender, _), connection in self._current.items()]
        for sender, connection in current + [(m, c) for c, m in self._calling.items()]:
            if sender == member:
                connection.finish("no member any more")

    async def _accept(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if listener.tls:
                await self._pace.turn()
            try:
                sock, address = await loop.sock_accept(listener.sock)
            except OSError as error:  # too many open files, most likely: it may pass
                self._hooks.refused("", f"cannot accept a connection: {describe(error)}")
                await asyncio.sleep(0.1)
                continue
            if self._open >= self._options.connections_max:
                sock.close()
                self._hooks.refused("", "there are too many connections")
                continue
            if len(self._unknown) >= self._options.strangers_max:
                _, oldest = self._unknown.popitem(last=False)
                oldest.cancel()
            key = object()
            self._unknown[key] = self._spawn(self._serve(sock, str(address[0]), listener, key))

    async def _serve(
        self, sock: socket.socket, address: str, listener: Listener, key: object
    ) -> None:
        self._open += 1
        connection: FrameConnection | None = None
        options = self._options
        try:
            async with asyncio.timeout(options.handshake_seconds):
                _, connection = await asyncio.get_running_loop().connect_accepted_socket(
                    FrameConnection, sock, ssl=options.server_tls if listener.tls else None
                )
                hello = await admit(connection, self._me, options)
            if hello.member_id != STRANGER:
                self._unknown.pop(key, None)
            await self._use(connection, hello, address)
        except (OSError, ProtocolError) as error:
            reason = describe(error)
            if connection is None or not connection.reason:
                self._hooks.refused(address, reason)
            if connection is not None:
                connection.finish(reason)
        finally:
            self._open -= 1
            self._unknown.pop(key, None)
            if connection is not None:  # until then asyncio closes the socket
                connection.finish("this member stops")

    async def _use(self, connection: FrameConnection, hello: Hello, address: str) -> None:
        if hello.purpose is Purpose.CALLS:
            self._calling[connection] = hello.member_id
            try:
                self._calls.serve(connection, hello, address)
                await self._ended(connection)
            finally:
                del self._calling[connection]
            return
        if hello.purpose is Purpose.CLIENT:
            await self._clients.take(connection, self._options.handshake_seconds)
            return
        # A newer connection ends the older one: what is still in that is older than what follows.
        role = (hello.member_id, hello.purpose)
        if (older := self._current.get(role)) is not None:
            older.end("the member has connected anew")
        self._current[role] = connection
        try:
            if hello.purpose is Purpose.SNAPSHOT:
                await self._snapshots.take(connection, hello.member_id)
            else:
                self._deliver(connection, hello)
                await self._ended(connection)
        finally:
            if self._current.get(role) is connection:
                del self._current[role]

    def _deliver(self, connection: FrameConnection, hello: Hello) -> None:
        options, received = self._options, self._receiver.received
        sender, me = hello.member_id, MemberId(self._me.member_id)
        urgent = hello.purpose is Purpose.URGENT

        def messages(frames: list[Frame]) -> None:
            received([decode(sender, me, kind, body) for kind, body in frames])

        connection.allow(options.urgent_bytes_max if urgent else options.frame_bytes_max)
        connection.deliver_to(messages)

    async def _ended(self, connection: FrameConnection) -> None:
        """Wait for the end: pings come while the other side lives."""
        idle = self._options.idle_seconds
        clock = asyncio.get_running_loop().time
        while not await ended_within(connection, idle / 4):
            if clock() - connection.heard_at > idle:
                connection.end(f"nothing was heard for {idle:g} s")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
