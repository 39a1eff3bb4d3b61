"""`/version` and `/metrics`. Event loop; rendering the metrics is done on a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from kvshim.http.routes import Request, Response, Routes, ok_json
from kvshim.metrics.registry import CONTENT_TYPE, Metrics


@dataclass(frozen=True, slots=True)
class Versions:
    """As `/version` shows them; a cluster that has not agreed yet says `not_decided`."""

    server: str
    cluster: str
    storage: str


def version_routes(versions: Callable[[], Versions]) -> Routes:
    async def version(_request: Request) -> Response:
        now = versions()
        return ok_json(
            {"etcdserver": now.server, "etcdcluster": now.cluster, "storage": now.storage}
        )

    return {"/version": version}


def metrics_routes(metrics: Metrics) -> Routes:
    async def page(_request: Request) -> Response:
        # Some ten milliseconds of work: too long for the event loop.
        return Response(200, CONTENT_TYPE, await asyncio.to_thread(metrics.render))

    return {"/metrics": page}
