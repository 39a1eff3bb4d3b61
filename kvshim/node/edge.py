"""The node's outer edge: the addresses that it listens on, for clients and for monitoring."""

from __future__ import annotations

from kvshim.backend.datadir import DataDir
from kvshim.config import Config, Url
from kvshim.errors import StartupError
from kvshim.http.health import HealthPages
from kvshim.http.pages import Versions, metrics_routes, version_routes
from kvshim.http.routes import Router
from kvshim.http.server import HttpServer
from kvshim.logs import Event
from kvshim.node.health import NodeHealth
from kvshim.node.parts import Parts
from kvshim.transport.grpcio_server import GrpcioOptions, GrpcioServer
from kvshim.transport.self_signed import ensure_self_signed
from kvshim.transport.tls import TlsOptions
from kvshim.version import CLUSTER_VERSION, ETCD_VERSION


class Edge:
    """Binds first, so that an address in use is known before anything runs; then serves."""

    def __init__(self, parts: Parts, data_dir: DataDir) -> None:
        self._parts = parts
        config = parts.config
        tls = _client_tls(config, data_dir)
        self._grpc = GrpcioServer(
            parts.methods(), _grpcio_options(config, tls), parts.metrics.calls, parts.logger
        )
        self._http = HttpServer(_router(parts), tls, parts.logger)
        self._started = False

    def bind(self) -> None:
        """Claim every address. Raises `StartupError`."""
        self._addresses = self._grpc.bind()
        self._metrics_addresses = [
            bound
            for url in self._parts.config.listen_metrics_urls
            if (bound := self._bind_metrics(url)) is not None
        ]

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

    def _bind_metrics(self, url: Url) -> Url | None:
        """The bound address; None for a default one that is in use."""
        try:
            return self._http.bind(url)
        except StartupError as error:
            if self._parts.config.metrics_urls_given:
                raise
            self._parts.logger.warn(
                Event.METRICS_ADDRESS_IN_USE, address=str(url), reason=str(error)
            )
            return None


def _router(parts: Parts) -> Router:
    health = HealthPages(NodeHealth(parts), parts.metrics.health, parts.logger)
    versions = Versions(ETCD_VERSION, CLUSTER_VERSION, CLUSTER_VERSION)
    pages = {
        **health.routes(),
        **version_routes(lambda: versions),
        **metrics_routes(parts.metrics),
    }
    return Router(pages, parts.logger)


def _client_tls(config: Config, data_dir: DataDir) -> TlsOptions | None:
    """The client side's TLS options; None when no address needs them."""
    if not any(url.tls for url in config.listen_client_urls) or not config.client_tls.available:
        return None
    tls = config.client_tls
    cert_file, key_file = tls.cert_file, tls.key_file
    if cert_file is None or key_file is None:
        hosts = sorted({url.host for url in config.listen_client_urls if not url.is_unix})
        directory = data_dir.path / "fixtures" / "client"
        years = tls.self_signed_validity_years
        cert_file, key_file = ensure_self_signed(directory, hosts, years)
    return TlsOptions(
        cert_file=cert_file,
        key_file=key_file,
        trusted_ca_file=tls.trusted_ca_file,
        client_cert_auth=tls.client_cert_auth,
        allowed_hostnames=tls.allowed_hostnames,
        allowed_common_names=tls.allowed_cns,
        crl_file=tls.crl_file,
        min_version=tls.min_version,
        max_version=tls.max_version,
        cipher_suites=tls.cipher_suites,
    )


def _grpcio_options(config: Config, tls: TlsOptions | None) -> GrpcioOptions:
    return GrpcioOptions(
        listen_urls=config.listen_client_urls,
        tls=tls,
        request_bytes_max=config.max_request_bytes,
        concurrent_streams_max=config.max_concurrent_streams,
        keepalive_min_time_seconds=config.grpc_keepalive_min_time_s,
        keepalive_interval_seconds=config.grpc_keepalive_interval_s,
        keepalive_timeout_seconds=config.grpc_keepalive_timeout_s,
        reuse_port=config.socket_reuse_port,
    )
