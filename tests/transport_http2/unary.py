"""A server with one unary method that may be answered without a task, and how its calls ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from kvshim.config import MetricsLevel
from kvshim.metrics.registry import Metrics
from kvshim.rpc import QuickHandler, Unary, UnaryHandler
from kvshim.transport.http2.server import Http2Server
from kvshim.transport.options import ServerOptions
from tests.transport.serving import LOCAL, RANGE, LogBook
from tests.transport_http2.test_protocol import UNARY


class Served(NamedTuple):
    port: int
    server: Http2Server
    metrics: Metrics
    log: LogBook


@asynccontextmanager
async def served(handler: UnaryHandler, at_once: QuickHandler) -> AsyncIterator[Served]:
    log, metrics = LogBook(), Metrics(MetricsLevel.BASIC)
    method = Unary(UNARY, RANGE, handler, at_once=at_once)
    server = Http2Server([method], ServerOptions(listen_urls=(LOCAL,)), metrics.calls, log)
    [url] = server.bind()
    await server.start()
    try:
        yield Served(url.port, server, metrics, log)
    finally:
        await server.stop(0)


def handled(metrics: Metrics) -> dict[str, float]:
    """How many calls ended, by status code."""
    return {
        sample.labels["grpc_code"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "grpc_server_handled_total" and sample.value
    }
