"""The open connections of HTTP/1.1, a task each: admitted, served, ended. Event loop only."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from kvshim.http.connection import Connection
from kvshim.http.limits import CLIENT_PORT, Limits
from kvshim.logs import Event, Logger
from kvshim.transport.client_certs import (
    CertificateRefused,
    ClientCertificatePolicy,
    peer_certificate,
)
from kvshim.transport.inflight import InFlight
from kvshim.transport.plain import Application, Exchange

CLOSE_SECONDS_MAX = 1.0


class Connections:
    """Serves any number of connections by one application."""

    def __init__(
        self,
        application: Application,
        policy: ClientCertificatePolicy | None,
        limits: Limits,
        log: Logger,
    ) -> None:
        self._application = application
        self._policy = policy
        self._limits = limits
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def protocol(self) -> asyncio.StreamReaderProtocol:
        """One connection's, for asyncio, which then calls `serve`."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        return asyncio.StreamReaderProtocol(reader, self.serve, loop=loop)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from handshake to end, in the task that asyncio made for it."""
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this callback in a task"
        try:
            if len(self._tasks) >= self._limits.connections_max:
                self._log.warn(Event.CONNECTION_REJECTED, reason="too many connections")
                return
            self._tasks.add(task)
            self._admit(writer)
            await Connection(reader, writer, self._application, self._limits).serve()
        except CertificateRefused as error:
            self._log.warn(Event.CONNECTION_REJECTED, reason=str(error))
        except asyncio.CancelledError:
            # Only `send_away` cancels this task; asyncio would report the cancellation as an error.
            pass
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(OSError):
                await _close(writer)

    def send_away(self) -> None:
        """End the connections that are open now."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        self.send_away()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _admit(self, writer: asyncio.StreamWriter) -> None:
        if self._policy is None:
            return
        connection = writer.get_extra_info("ssl_object")
        if connection is not None:
            self._policy.admit(peer_certificate(connection))


class ClientFront:
    """Plain HTTP on the client port: what is HTTP/2 comes as exchanges, HTTP/1.1 as connections."""

    def __init__(
        self,
        application: Application,
        inflight: InFlight,
        policy: ClientCertificatePolicy | None,
        log: Logger,
    ) -> None:
        self._application = application
        self._inflight = inflight
        self._connections = Connections(application, policy, CLIENT_PORT, log)

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request of HTTP/2."""
        await self._application.answer(exchange)

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve an open connection, whose first bytes are `data`."""
        _prepare(transport)
        protocol = self._connections.protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)

    def send_away(self) -> None:
        """End the connections that are open."""
        self._connections.send_away()

    async def stop(self, grace_seconds: float) -> None:
        """Let calls finish within the grace, then end all connections."""
        await self._inflight.drain(grace_seconds)
        # Cancelled streams send their last line in the next turns of the loop.
        await asyncio.sleep(0)
        await self._connections.stop()


KEEPALIVE_SECONDS = 15
"""Of silence before TCP asks whether a client is still there: a watch may be silent for hours."""


def _prepare(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), KEEPALIVE_SECONDS)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close politely; a client that does not read loses what is unsent."""
    # To close twice leaves a TLS transport of Python 3.11.2 unable to abort.
    if not writer.is_closing():
        writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await writer.wait_closed()
    except (TimeoutError, asyncio.CancelledError):
        writer.transport.abort()
