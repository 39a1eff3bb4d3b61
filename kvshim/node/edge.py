"""The node's outer edge: the addresses that it listens on, for clients and for monitoring."""

from __future__ import annotations

from kvshim.backend.datadir import DataDir
from kvshim.config import Config
from kvshim.logs import Event
from kvshim.node.parts import Parts
from kvshim.transport.grpcio_server import GrpcioOptions, GrpcioServer
from kvshim.transport.self_signed import ensure_self_signed
from kvshim.transport.tls import TlsOptions, TlsVersion


class Edge:
    """Binds first, so that an address in use is known before anything runs; then serves."""

    def __init__(self, parts: Parts, data_dir: DataDir) -> None:
        self._parts = parts
        config = parts.config
        tls = _client_tls(config, data_dir)
        self._grpc = GrpcioServer(
            parts.methods(), _grpcio_options(config, tls), parts.metrics.calls, parts.logger
        )
        self._started = False

    def bind(self) -> None:
        """Claim every address. Raises `StartupError`."""
        self._addresses = self._grpc.bind()

    async def start(self) -> None:
        """Begin to answer."""
        await self._grpc.start()
        self._started = True
        for address in self._addresses:
            self._parts.logger.info(Event.LISTENING, address=address)

    async def stop(self, grace_seconds: float) -> None:
        """Let calls finish within the grace, then end them."""
        await self._grpc.stop(grace_seconds if self._started else 0.0)


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
        min_version=TlsVersion(tls.min_version.value),
        max_version=TlsVersion(tls.max_version.value) if tls.max_version else None,
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


