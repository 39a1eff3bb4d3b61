"""grpc.health.v1.Health as etcd serves it: one service, the empty name, which means all of them.

Serving from the start until `shutdown`, because the transport answers nothing before the node is
ready. Event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from kvshim.errors import Code, RequestError
from kvshim.rpc import Call, Method, Reply, ServerStream, Unary

SERVICE = "/grpc.health.v1.Health/"
ALL_SERVICES = ""

_Status = health_pb2.HealthCheckResponse.ServingStatus


class UnknownService(RequestError):
    code, text = Code.NOT_FOUND, "unknown service"


class HealthService:
    """Says that this server serves, and tells watchers when it stops doing so."""

    def __init__(self) -> None:
        self._serving = True
        self._changed = asyncio.Event()

    def methods(self) -> list[Method]:
        return [
            Unary(SERVICE + "Check", health_pb2.HealthCheckRequest, self.check),
            Unary(SERVICE + "List", health_pb2.HealthListRequest, self.list),
            ServerStream(SERVICE + "Watch", health_pb2.HealthCheckRequest, self.watch),
        ]

    def shutdown(self) -> None:
        """From now on not serving, for good: call it before the transport stops."""
        self._serving = False
        self._changed.set()

    async def check(self, request: health_pb2.HealthCheckRequest, _call: Call) -> Reply:
        if request.service != ALL_SERVICES:
            raise UnknownService
        return self._response()

    async def list(self, _request: health_pb2.HealthListRequest, _call: Call) -> Reply:
        response: Message = health_pb2.HealthListResponse(statuses={ALL_SERVICES: self._response()})
        return response

    async def watch(
        self, request: health_pb2.HealthCheckRequest, _call: Call
    ) -> AsyncIterator[Message]:
        """The status now and when it changes; an unknown service stays so until the client goes."""
        if request.service != ALL_SERVICES:
            yield health_pb2.HealthCheckResponse(status=_Status.SERVICE_UNKNOWN)
            await asyncio.Event().wait()
        if self._serving:
            yield self._response()
            await self._changed.wait()
        yield self._response()
        await asyncio.Event().wait()

    def _response(self) -> Message:
        status = _Status.SERVING if self._serving else _Status.NOT_SERVING
        response: Message = health_pb2.HealthCheckResponse(status=status)
        return response
