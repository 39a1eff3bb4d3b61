"""The node's outer edge: the addresses that it listens on, for clients and for monitoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, assert_never

from kvshim.backend.datadir import DataDir
from kvshim.config import TransportKind, Url
from kvshim.gateway.gateway import Gateway
from kvshim.http.connections import ClientFront
from kvshim.http.health import HealthPages
from kvshim.http.pages import Versions, metrics_routes, version_routes
from kvshim.http.routes import Router
from kvshim.http.server import HttpServer
from kvshim.http.site import Pages, Site
from kvshim.logs import Event
from kvshim.node.forwarding import Forwarding, Serving
from kvshim.node.health import NodeHealth
from kvshim.node.parts import Parts
from kvshim.rpc import Method
from kvshim.transport.client_certs import ClientCertificatePolicy
from kvshim.transport.client_tls import resolve_client_tls
from kvshim.transport.http2.server import Http2Server
from kvshim.transport.inflight import InFlight
from kvshim.transport.options import ServerOptions
from kvshim.version import ETCD_VERSION, etcd_cluster_version


class Edge:
    """Binds first, so that an address in use is known before anything runs; then serves."""

    def __init__(self, parts: Parts, data_dir: DataDir) -> None:
        self._parts = parts
        config = parts.config
        urls = (*config.listen_client_urls, *config.listen_metrics_urls)
        tls = None
        if any(url.tls for url in urls):
            tls = resolve_client_tls(config.client_tls, data_dir.path, urls, parts.logger)
        router = _router(parts)
        self._grpc = _transport(parts, ServerOptions.of(config, tls), router)
        self._http = HttpServer(router, tls, parts.logger)
        self._started = False

    def bind(self) -> None:
        """Claim every address. Raises `StartupError`."""
        self._addresses = self._grpc.bind()
        urls = self._parts.config.listen_metrics_urls
        self._metrics_addresses = [self._http.bind(url) for url in urls]

    async def start(self) -> None:
        """Begin to answer."""
        await self._grpc.start()
        await self._http.start()
        self._started = True
        for address in self._addresses:
            self._parts.logger.info(Event.LISTENING, address=address)
        for url in self._metrics_addresses:
            self._parts.logger.info(Event.METRICS_LISTENING, address=str(url))

    async def stop(self, grace_seconds: float) -> None:
        """Let calls finish within the grace, then end them."""
        await self._grpc.stop(grace_seconds if self._started else 0.0)
        await self._http.stop()


class Transport(Protocol):
    """A gRPC server, whoever wrote it."""

    def bind(self) -> list[Url]: ...
    async def start(self) -> None: ...
    async def stop(self, grace_seconds: float) -> None: ...


def _transport(parts: Parts, options: ServerOptions, router: Router) -> Transport:
    methods, calls, logger = parts.methods(), parts.metrics.calls, parts.logger
    match parts.config.transport:
        case TransportKind.HTTP2:
            front = _front(parts, methods, options, router)
            follower, peers = parts.duties.follower, parts.peers.transport
            detour = Forwarding(follower, peers)
            server = Http2Server(methods, options, calls, logger, http=front, detour=detour)
            follower.on_spared.append(server.send_away)
            peers.serve_clients(Serving(follower, parts.leadership, server))
            return server
        case TransportKind.GRPCIO:
            # grpc takes 20 MiB, which a node that does not use it shall not pay.
            from kvshim.transport.grpcio_server import GrpcioServer

            return GrpcioServer(methods, options, calls, logger)
        case other:
            assert_never(other)


def _front(
    parts: Parts, methods: Sequence[Method], options: ServerOptions, router: Router
) -> ClientFront:
    """Plain HTTP on the client port: pages and the gateway."""
    config, inflight, gateway = parts.config, InFlight(), None
    if config.enable_grpc_gateway:
        gateway = Gateway(
            methods, parts.metrics.calls, options.message_bytes_max, inflight, parts.logger
        )
    by_name, book = config.client_tls.client_cert_auth, parts.auth.book
    site = Site(
        Pages(router),
        gateway,
        config.cors,
        config.host_whitelist,
        lambda: by_name and book.state.enabled,
    )
    policy = ClientCertificatePolicy.of(options.tls) if options.tls else None
    return ClientFront(site, inflight, policy, parts.logger)


def _router(parts: Parts) -> Router:
    health = HealthPages(NodeHealth(parts), parts.metrics.health, parts.logger)
    cluster = parts.delivery.version

    def versions() -> Versions:
        served = etcd_cluster_version(cluster.current)
        return Versions(ETCD_VERSION, served, served)

    pages = {
        **health.routes(),
        **version_routes(versions),
        **metrics_routes(parts.metrics),
    }
    return Router(pages, parts.logger)
