"""What one client of plain HTTP may cost us. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from raft.transport.pace import Rate

HANDSHAKES = Rate(burst=5, per_second=20.0)
"""Of TLS, on all metrics addresses: probes and scrapers are few."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Generous for probes, tight for anybody else."""

    header_bytes_max: int = 16 * 1024
    body_bytes_max: int = 64 * 1024
    """Of requests to pages, which have no use for one."""
    request_seconds_max: float = 10.0
    """For a request to arrive whole; on a new connection this includes its first byte. The
    gateway has limits of its own for bodies."""
    idle_seconds_max: float = 75.0
    """Between two requests: longer than the usual interval of scrapes."""
    response_seconds_max: float = 30.0
    """For a page to be made, and for the client to take a piece of a response."""
    requests_per_connection_max: int = 10_000
    connections_max: int = 64
    handshake_seconds_max: float = 10.0
    handshakes: Rate = HANDSHAKES


CLIENT_PORT = Limits(header_bytes_max=64 * 1024, connections_max=10_000)
"""The client port: as many connections as gRPC may have, and headers as long."""
