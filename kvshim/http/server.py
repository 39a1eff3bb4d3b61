"""The HTTP/1.1 server of `--listen-metrics-urls`: http, https, unix and unixs. Event loop only.

`bind` claims the addresses and can fail, `start` begins to answer, `stop` ends all connections.
"""

from __future__ import annotations

import asyncio
import socket

from kvshim.config import Url
from kvshim.errors import StartupError
from kvshim.http.connections import Connections
from kvshim.http.limits import Limits
from kvshim.http.routes import Router
from kvshim.http.site import Pages
from kvshim.logs import Event, Logger
from kvshim.transport.client_certs import ClientCertificatePolicy
from kvshim.transport.handshakes import TlsListener
from kvshim.transport.listeners import listen, remove_socket
from kvshim.transport.tls import TlsOptions
from kvshim.transport.tls_context import server_context
from raft.transport.pace import Pace

ALPN = ("http/1.1",)


class HttpServer:
    """Serves one router on any number of addresses."""

    def __init__(
        self, router: Router, tls: TlsOptions | None, log: Logger, limits: Limits | None = None
    ) -> None:
        self._tls = tls
        self._log = log
        self._limits = limits or Limits()
        policy = ClientCertificatePolicy.of(tls) if tls else None
        pages = Pages(router, self._limits)
        self._connections = Connections(pages, policy, self._limits, log)
        self._bound: list[tuple[Url, socket.socket]] = []
        self._servers: list[asyncio.Server | TlsListener] = []
        self._pace = Pace(self._limits.handshakes)

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
        await self._connections.stop()
        for url, sock in self._bound:
            sock.close()
            remove_socket(url)

    async def _serve(self, url: Url, sock: socket.socket) -> asyncio.Server | TlsListener:
        if url.tls and self._tls is not None:
            return TlsListener(
                sock,
                server_context(self._tls, ALPN, self._warn),
                self._connections.protocol,
                pace=self._pace,
                handshake_seconds_max=self._limits.handshake_seconds_max,
                admit=self._has_room,
            )
        loop = asyncio.get_running_loop()
        return await loop.create_server(self._connections.protocol, sock=sock)

    def _has_room(self) -> bool:
        shaking = sum(s.handshakes for s in self._servers if isinstance(s, TlsListener))
        return len(self._connections) + shaking < self._limits.connections_max

    def _warn(self, sentence: str) -> None:
        self._log.warn(Event.SETTING_ADVICE, advice=sentence)
