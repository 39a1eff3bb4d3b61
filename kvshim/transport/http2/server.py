"""The HTTP/2 transport of our own: serves a table of `kvshim.rpc` methods on the client URLs.

`bind` claims the addresses and can fail, `start` begins to answer, `stop` drains. Event loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from functools import partial

from kvshim.config import Url
from kvshim.errors import StartupError
from kvshim.logs import Event, Logger
from kvshim.metrics.calls import CallMetrics
from kvshim.rpc import Bidi, Method, service_of
from kvshim.transport.carried import CarriedTransport, CarryingFront, Detour
from kvshim.transport.client_certs import ClientCertificatePolicy
from kvshim.transport.first_bytes import FirstBytes
from kvshim.transport.handshakes import TlsListener
from kvshim.transport.http2.connection import ConnectionOptions
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.plain import PlainRunner
from kvshim.transport.http2.protocol import Http2Protocol, Serving
from kvshim.transport.http2.runner import RunnerOptions, runner_of
from kvshim.transport.http2.shares import Shares
from kvshim.transport.listeners import listen, remove_socket
from kvshim.transport.options import ServerOptions
from kvshim.transport.plain import HttpFront
from kvshim.transport.tls_context import server_context
from raft.transport import CarriedClient
from raft.transport.pace import Pace

ALPN = ("h2",)
ALPN_OF_ALL = ("h2", "http/1.1")

DRAIN_SECONDS_MAX = 0.5
"""For clients to read that they are to go elsewhere."""

CANCEL_SECONDS_MAX = 1.0
"""After the grace: for cancelled calls to send their status."""

CLOSE_SECONDS_MAX = 1.0
"""For clients to take what was written last; longer than that they are cut off."""


class Http2Server:
    """A gRPC server on any number of addresses."""

    def __init__(
        self,
        methods: Sequence[Method],
        options: ServerOptions,
        metrics: CallMetrics,
        log: Logger,
        limits: Limits | None = None,
        *,
        http: HttpFront | None = None,
        detour: Detour | None = None,
    ) -> None:
        """With `http`, what is no gRPC is answered by it, and HTTP/1.1 is spoken as well.

        While `detour` is wanted, whoever connects is served by another member.
        """
        self._options = options
        self._http = http
        self._limits = limits or Limits()
        self._log = log
        loop = asyncio.get_running_loop()
        self._running = RunnerOptions(loop, options.message_bytes_max, self._log_failure)
        self._serving = Serving(
            loop=loop,
            runners={method.path: runner_of(method, metrics, self._running) for method in methods},
            services=frozenset(service_of(method) for method in methods),
            options=ConnectionOptions(
                message_bytes_max=options.message_bytes_max,
                streams_max=options.concurrent_streams_max,
                between_pings_seconds=options.keepalive_min_time_seconds,
                bidi_paths=frozenset(m.path for m in methods if isinstance(m, Bidi)),
                limits=self._limits,
                serves_http=http is not None,
            ),
            policy=ClientCertificatePolicy.of(options.tls) if options.tls else None,
            keepalive_interval_seconds=options.keepalive_interval_seconds,
            keepalive_timeout_seconds=options.keepalive_timeout_seconds,
            reject=self._reject,
            shares=Shares(self._limits),
            plain=PlainRunner(http, self._running) if http is not None else None,
        )
        self._detour = detour
        self._carrying: CarryingFront | None = None
        if detour is not None:
            self._carrying = CarryingFront(
                detour.carry, self._serving.policy, self._limits.connections_max
            )
        self._undecided: set[FirstBytes] = set()
        self._bound: list[tuple[Url, socket.socket]] = []
        self._servers: list[asyncio.Server | TlsListener] = []
        self._pace = Pace(self._limits.handshakes)

    def bind(self) -> list[Url]:
        """Claim every listen URL and return them with real ports; StartupError if one is taken.

        Clients may connect from now on; they are answered after `start`.
        """
        return [self._bind(url) for url in self._options.listen_urls]

    async def start(self) -> None:
        """Begin to answer on the bound addresses."""
        for url, sock in self._bound:
            self._servers.append(await self._listen(url, sock))

    async def stop(self, grace_seconds: float) -> None:
        """Send clients elsewhere, let unary calls finish within the grace, end all others."""
        for server in self._servers:
            server.close()
        for undecided in list(self._undecided):
            undecided.abort()
        if self._carrying is not None:
            self._carrying.close()
        draining = self._drain(grace_seconds)
        if self._http is not None:
            await asyncio.gather(draining, self._http.stop(grace_seconds))
        else:
            await draining
        if self._running.tasks:
            await asyncio.wait(self._running.tasks, timeout=CANCEL_SECONDS_MAX)
        await self._close_connections()
        for url, sock in self._bound:
            sock.close()
            remove_socket(url)

    def serve(self, client: CarriedClient, transport: asyncio.Transport) -> None:
        """Serve a client that another member carries here; silent until its first bytes come."""
        protocol = self._first_bytes(self._has_room)
        transport.set_protocol(protocol)
        protocol.connection_made(CarriedTransport(transport, client))

    def send_away(self) -> None:
        """End the connections served here: whoever connects anew is served by another member."""
        for protocol in list(self._serving.protocols):
            protocol.refuse()
            protocol.close()
        if self._http is not None:
            self._http.send_away()

    async def _drain(self, grace_seconds: float) -> None:
        """No call is lost: one that a client sends before it knows better is served as well."""
        drained = [protocol.drain() for protocol in self._serving.protocols]
        if drained:
            await asyncio.wait(drained, timeout=min(grace_seconds, DRAIN_SECONDS_MAX))
        for protocol in self._serving.protocols:
            protocol.refuse()
        await self._running.inflight.drain(grace_seconds)

    async def _close_connections(self) -> None:
        serving = self._serving
        for protocol in list(serving.protocols):
            protocol.close()
        if serving.protocols:
            serving.none_left.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(serving.none_left.wait(), CLOSE_SECONDS_MAX)
        for protocol in list(serving.protocols):
            protocol.abort()

    def _bind(self, url: Url) -> Url:
        if url.tls and self._options.tls is None:
            raise StartupError(
                f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url} "
                "with HTTPS scheme"
            )
        sock = listen(url, reuse_port=self._options.reuse_port)
        self._bound.append((url, sock))
        return Url(url.scheme, url.host, 0 if url.is_unix else sock.getsockname()[1])

    async def _listen(self, url: Url, sock: socket.socket) -> asyncio.Server | TlsListener:
        tls = self._options.tls
        if not url.tls or tls is None:
            connected = partial(self._connected, self._has_room)
            return await self._serving.loop.create_server(connected, sock=sock)
        return TlsListener(
            sock,
            server_context(tls, ALPN_OF_ALL if self._http else ALPN, self._warn),
            partial(self._connected, lambda: True),
            pace=self._pace,
            handshake_seconds_max=self._limits.handshake_seconds_max,
            admit=self._has_room,
        )

    def _connected(self, admit: Callable[[], bool]) -> asyncio.Protocol:
        if self._carrying is not None and self._detour is not None and self._detour.wanted():
            return self._carrying.protocol()
        return Http2Protocol(self._serving) if self._http is None else self._first_bytes(admit)

    def _first_bytes(self, admit: Callable[[], bool]) -> FirstBytes:
        return FirstBytes(
            self._to_http2,
            self._to_http1 if self._http is not None else self._to_http2,
            self._undecided,
            self._limits.preface_seconds_max,
            admit,
        )

    def _has_room(self) -> bool:
        """Whether one more connection is welcome, of whichever protocol."""
        open_ones = len(self._serving.protocols) + len(self._undecided)
        if self._http is not None:
            open_ones += self._http.connections
        open_ones += sum(s.handshakes for s in self._servers if isinstance(s, TlsListener))
        if open_ones < self._limits.connections_max:
            return True
        self._reject("too many connections")
        return False

    def _to_http2(self, transport: asyncio.Transport, data: bytes) -> None:
        protocol = Http2Protocol(self._serving)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)

    def _to_http1(self, transport: asyncio.Transport, data: bytes) -> None:
        assert self._http is not None
        self._http.take_over(transport, data)

    def _reject(self, reason: str) -> None:
        self._log.debug(Event.CONNECTION_REJECTED, reason=reason)

    def _warn(self, sentence: str) -> None:
        self._log.warn(Event.SETTING_ADVICE, advice=sentence)

    def _log_failure(self, path: str, error: BaseException) -> None:
        self._log.error(Event.HANDLER_FAILED, method=path, exc_info=error)
