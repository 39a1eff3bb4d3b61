"""The HTTP/1.1 server of `--listen-metrics-urls`: http, https, unix and unixs. Event loop only.

`bind` claims the addresses and can fail, `start` begins to answer, `stop` ends all connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from kvshim.config import Url
from kvshim.errors import StartupError
from kvshim.http.connection import Connection, Limits
from kvshim.http.routes import Router
from kvshim.logs import Event, Logger
from kvshim.transport.client_certs import (
    CertificateRefused,
    ClientCertificatePolicy,
    peer_certificate,
)
from kvshim.transport.listeners import listen, remove_socket
from kvshim.transport.tls import TlsOptions
from kvshim.transport.tls_context import server_context

ALPN = ("http/1.1",)


class HttpServer:
    """Serves one router on any number of addresses."""

    def __init__(
        self, router: Router, tls: TlsOptions | None, log: Logger, limits: Limits | None = None
    ) -> None:
        self._router = router
        self._tls = tls
        self._log = log
        self._limits = limits or Limits()
        self._policy = ClientCertificatePolicy.of(tls) if tls else None
        self._bound: list[tuple[Url, socket.socket]] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        return len(self._connections)

    def bind(self, url: Url) -> Url:
        """Claim one address and return it with its real port; StartupError if that fails."""
        if url.tls and self._tls is None:
            raise StartupError(
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics "
                f"secure url {url}"
            )
        sock = listen(url)
        self._bound.append((url, sock))
        return url if url.is_unix else Url(url.scheme, url.host, sock.getsockname()[1])

    async def start(self) -> None:
        """Begin to answer on the bound addresses."""
        for url, sock in self._bound:
            self._servers.append(await self._serve(url, sock))

    async def stop(self) -> None:
        """Close every socket and connection. Safe before `start`."""
        for server in self._servers:
            server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for url, sock in self._bound:
            sock.close()
            remove_socket(url)

    async def _serve(self, url: Url, sock: socket.socket) -> asyncio.Server:
        if url.tls and self._tls is not None:
            context = server_context(self._tls, ALPN, self._warn)
            seconds = self._limits.handshake_seconds_max
            return await asyncio.start_server(
                self._connected, sock=sock, ssl=context, ssl_handshake_timeout=seconds
            )
        return await asyncio.start_server(self._connected, sock=sock)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from handshake to end, in the task that asyncio made for it."""
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this callback in a task"
        try:
            if len(self._connections) >= self._limits.connections_max:
                self._log.warn(Event.CONNECTION_REJECTED, reason="too many connections")
                return
            self._connections.add(task)
            self._admit(writer)
            await Connection(reader, writer, self._router, self._limits).serve()
        except CertificateRefused as error:
            self._log.warn(Event.CONNECTION_REJECTED, reason=str(error))
        except asyncio.CancelledError:
            # Only `stop` cancels this task; asyncio would report the cancellation as an error.
            pass
        finally:
            self._connections.discard(task)
            with contextlib.suppress(OSError):
                await _close(writer)

    def _admit(self, writer: asyncio.StreamWriter) -> None:
        if self._policy is None:
            return
        connection = writer.get_extra_info("ssl_object")
        if connection is not None:
            self._policy.admit(peer_certificate(connection))

    def _warn(self, sentence: str) -> None:
        self._log.warn(Event.SETTING_ADVICE, advice=sentence)


CLOSE_SECONDS_MAX = 1.0


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close politely; a client that does not read loses what is unsent."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await writer.wait_closed()
    except (TimeoutError, asyncio.CancelledError):
        writer.transport.abort()
