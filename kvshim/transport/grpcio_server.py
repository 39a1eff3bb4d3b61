"""The grpc.aio transport: serves a table of `kvshim.rpc` methods on the client URLs.

`bind` claims the addresses and can fail, `start` begins to answer, `stop` drains. Event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from kvshim.config import Url
from kvshim.errors import StartupError
from kvshim.logs import Event, Logger
from kvshim.metrics.calls import CallMetrics
from kvshim.rpc import Method
from kvshim.transport.client_certs import ClientCertificatePolicy
from kvshim.transport.grpcio_credentials import server_credentials
from kvshim.transport.grpcio_handlers import HandlerOptions, MethodTable, grpc_handler
from kvshim.transport.inflight import InFlight
from kvshim.transport.listeners import check_free, remove_socket, tcp_host
from kvshim.transport.options import INT32_MAX, ServerOptions

PENDING_REQUESTS_MAX = 100_000
"""Calls that wait to be accepted. By default gRPC core drops some once 1000 wait."""

CANCEL_SECONDS_MAX = 1.0
"""After the grace: for cancelled calls to send their status."""

GrpcioOptions = ServerOptions


class GrpcioServer:
    """A gRPC server on any number of addresses."""

    def __init__(
        self,
        methods: Sequence[Method],
        options: GrpcioOptions,
        metrics: CallMetrics,
        log: Logger,
    ) -> None:
        self._options = options
        self._log = log
        self._inflight = InFlight()
        policy = ClientCertificatePolicy.of(options.tls) if options.tls else None
        shared = HandlerOptions(options.message_bytes_max, policy, self._log_failure)
        handlers = {
            method.path: grpc_handler(method, metrics, self._inflight, shared) for method in methods
        }
        self._server: Any = grpc.aio.server(options=channel_arguments(options))
        self._server.add_generic_rpc_handlers((MethodTable(handlers),))

    def bind(self) -> list[Url]:
        """Claim every listen URL and return them with real ports; StartupError if one is taken.

        Clients may connect from now on; they are answered after `start`.
        """
        return [self._bind(url) for url in self._options.listen_urls]

    async def start(self) -> None:
        """Begin to answer on the bound addresses."""
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let unary ones finish within the grace, end all others."""
        closing = asyncio.create_task(self._server.stop(grace_seconds + CANCEL_SECONDS_MAX))
        await self._inflight.drain(grace_seconds)
        await closing
        for url in self._options.listen_urls:
            remove_socket(url)

    def _bind(self, url: Url) -> Url:
        # grpc reports a failed bind without its reason and writes to stderr, so try it first.
        check_free(url, reuse_port=self._options.reuse_port)
        if url.is_unix:
            address = f"unix:{Path(url.host).absolute()}"
        else:
            address = Url(url.scheme, tcp_host(url), url.port).address
        try:
            port = self._add_port(url, address)
        except RuntimeError as error:
            raise StartupError(f"cannot listen on {url}: gRPC could not bind it") from error
        return Url(url.scheme, url.host, 0 if url.is_unix else port)

    def _add_port(self, url: Url, address: str) -> int:
        port: int
        if not url.tls:
            port = self._server.add_insecure_port(address)
            return port
        if self._options.tls is None:
            raise StartupError(
                f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url} "
                "with HTTPS scheme"
            )
        credentials = server_credentials(self._options.tls, self._warn)
        port = self._server.add_secure_port(address, credentials)
        return port

    def _warn(self, sentence: str) -> None:
        self._log.warn(Event.SETTING_ADVICE, advice=sentence)

    def _log_failure(self, path: str, error: BaseException) -> None:
        self._log.error(Event.HANDLER_FAILED, method=path, exc_info=error)


def channel_arguments(options: GrpcioOptions) -> list[tuple[str, int]]:
    """Names are gRPC core's; times are in milliseconds."""
    arguments = [
        ("grpc.so_reuseport", int(options.reuse_port)),
        # Requests up to twice the limit get through, to be refused in grpc-go's words.
        ("grpc.max_receive_message_length", 2 * options.message_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.server.max_pending_requests", PENDING_REQUESTS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_REQUESTS_MAX),
        ("grpc.max_concurrent_streams", min(options.concurrent_streams_max, INT32_MAX)),
        ("grpc.keepalive_time_ms", _milliseconds(options.keepalive_interval_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(options.keepalive_timeout_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        # etcd has no decompressor either; with one a small message could unpack to a huge one.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    ]
    if options.keepalive_min_time_seconds > 0:
        between_pings = _milliseconds(options.keepalive_min_time_seconds)
        arguments.append(("grpc.http2.min_ping_interval_without_data_ms", between_pings))
    else:
        arguments.append(("grpc.http2.max_ping_strikes", 0))
    return arguments


def _milliseconds(seconds: float) -> int:
    """INT32_MAX is gRPC core's "never"."""
    return min(int(seconds * 1000), INT32_MAX) if seconds > 0 else INT32_MAX
