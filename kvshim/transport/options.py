"""What flags say to whatever transport serves clients. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from kvshim.config import Config, Url
from kvshim.transport.tls import TlsOptions

GRPC_OVERHEAD_BYTES = 512 * 1024
"""What etcd allows a message to be above `--max-request-bytes`: a request before gRPC itself
refuses it, a watch response before it is fragmented."""

INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """etcd's flags that concern a transport. A time of 0 switches that keepalive off."""

    listen_urls: tuple[Url, ...]
    tls: TlsOptions | None = None
    request_bytes_max: int = 3 * 512 * 1024
    concurrent_streams_max: int = INT32_MAX
    keepalive_min_time_seconds: float = 5.0
    keepalive_interval_seconds: float = 2 * 60 * 60.0
    keepalive_timeout_seconds: float = 20.0
    reuse_port: bool = False

    @classmethod
    def of(cls, config: Config, tls: TlsOptions | None) -> ServerOptions:
        return cls(
            listen_urls=config.listen_client_urls,
            tls=tls,
            request_bytes_max=config.max_request_bytes,
            concurrent_streams_max=config.max_concurrent_streams,
            keepalive_min_time_seconds=config.grpc_keepalive_min_time_s,
            keepalive_interval_seconds=config.grpc_keepalive_interval_s,
            keepalive_timeout_seconds=config.grpc_keepalive_timeout_s,
            reuse_port=config.socket_reuse_port,
        )

    @property
    def message_bytes_max(self) -> int:
        return self.request_bytes_max + GRPC_OVERHEAD_BYTES
