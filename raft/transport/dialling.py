"""Connections to other members: addresses, dialling, and keeping watch over one. Event loop."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from raft.transport.connection import PING, FrameConnection
from raft.transport.handshake import introduce
from raft.transport.options import Hello, Identity, Purpose, TransportOptions
from raft.types import LogError, MemberId

_TLS: Final = {"http": False, "https": True}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a member listens."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """From "http://host:port" or "https://host:port". Raises `LogError`."""
        try:
            parts = urlsplit(url)
            tls, host, port = _TLS[parts.scheme], parts.hostname, parts.port
        except (KeyError, ValueError):
            host = port = None
        if not host or not port:
            raise LogError(f"{url} is no address of a member: http(s)://host:port is meant")
        return cls(host, port, tls)


@dataclass(frozen=True, slots=True)
class Dialler:
    """Opens connections as one member."""

    me: Identity
    options: TransportOptions

    async def open(
        self, url: str, target: MemberId, purpose: Purpose, tls: ssl.SSLContext | None = None
    ) -> tuple[FrameConnection, Hello]:
        """Connect and introduce ourselves; returns who answered as well.

        `tls` is used for this connection instead of the options'. Raises `OSError` (`ssl.SSLError`,
        `TimeoutError` and `HandshakeRefused` are ones), `LogError` for what is no address.
        """
        address = Address.of(url)
        context = tls or self.options.client_tls
        if address.tls and context is None:
            raise LogError(f"{url} needs TLS, for which this member has no certificate")
        options = self.options
        # TLS takes several round trips and a signature more.
        seconds = options.handshake_seconds if address.tls else options.connect_seconds
        async with asyncio.timeout(seconds):
            _, connection = await asyncio.get_running_loop().create_connection(
                FrameConnection,
                address.host,
                address.port,
                ssl=context if address.tls else None,
                server_hostname=address.host if address.tls else None,
            )
        try:
            async with asyncio.timeout(options.handshake_seconds):
                hello = await introduce(connection, self.me, target, purpose, options)
        except BaseException:
            connection.end("the handshake failed")
            raise
        return connection, hello


async def watch(connection: FrameConnection, options: TransportOptions) -> str:
    """Ping the other side until the connection ends; returns the reason.

    A connection cut in the middle, which TCP notices after minutes, is noticed here in
    `dead_seconds`. All connections ping at the same moments, so that a member at rest wakes once.
    """
    clock = asyncio.get_running_loop().time
    pinged_at = due_at = 0.0
    while not connection.reason:
        now = clock()
        if now - due_at > options.ping_seconds:
            pinged_at = 0.0  # we slept ourselves: what came in meanwhile was not read yet
        waiting = pinged_at > connection.heard_at
        if waiting and now - pinged_at > options.dead_seconds:
            connection.end(f"nothing was heard for {options.dead_seconds:g} s")
            break
        if not waiting:
            connection.write(PING)
            pinged_at = now
        seconds = options.ping_seconds - now % options.ping_seconds
        due_at = now + seconds
        await ended_within(connection, seconds)
    return connection.reason


async def ended_within(connection: FrameConnection, seconds: float) -> bool:
    """Wait for the connection's end, but not for longer."""
    try:
        async with asyncio.timeout(seconds):
            await connection.closed.wait()
    except TimeoutError:
        return False
    return True
