"""One port for all: what the first bytes say, and requests of HTTP/2 that are no calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from kvshim.config import MetricsLevel
from kvshim.gateway.gateway import Gateway
from kvshim.http.connections import ClientFront
from kvshim.http.pages import Versions, version_routes
from kvshim.http.routes import Router
from kvshim.http.site import Pages, Site
from kvshim.metrics.registry import Metrics
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Bidi, BidiCall, Call, Unary
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.server import Http2Server
from kvshim.transport.inflight import InFlight
from kvshim.transport.options import ServerOptions
from tests.transport.serving import LOCAL, LogBook

RANGE, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"
HEAD = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


class Handlers:
    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def range(self, request: rpc_pb2.RangeRequest, _call: Call) -> rpc_pb2.RangeResponse:
        return rpc_pb2.RangeResponse(count=len(request.key))

    async def watch(self, call: BidiCall) -> None:
        try:
            while await call.receive() is not None:
                await call.send(rpc_pb2.WatchResponse(created=True))
            await asyncio.get_running_loop().create_future()
        finally:
            self.left.set()


@asynccontextmanager
async def served(
    limits: Limits | None = None, hosts: tuple[str, ...] = ("*",)
) -> AsyncIterator[tuple[int, Handlers]]:
    handlers, log, metrics = Handlers(), LogBook(), Metrics(MetricsLevel.BASIC).calls
    methods = [
        Unary(RANGE, rpc_pb2.RangeRequest, handlers.range),
        Bidi(WATCH, rpc_pb2.WatchRequest, handlers.watch),
    ]
    options, inflight = ServerOptions(listen_urls=(LOCAL,), request_bytes_max=10_000), InFlight()
    pages = Pages(Router(version_routes(lambda: Versions("1", "2", "3")), log))
    gateway = Gateway(methods, metrics, options.message_bytes_max, inflight, log)
    front = ClientFront(Site(pages, gateway, ("*",), hosts), inflight, None, log)
    server = Http2Server(methods, options, metrics, log, limits, http=front)
    [url] = server.bind()
    await server.start()
    try:
        yield url.port, handlers
    finally:
        await server.stop(0)


def post(path: str, body: bytes) -> bytes:
    return HEAD % (path.encode(), len(body)) + body


async def told(port: int, *parts: bytes, until: bytes = b"") -> bytes:
    """What the server says to `parts`, until it closes or has said `until`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()


async def test_grpc_and_http_1_share_a_port():
    async with served() as (port, _), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(RANGE, response_deserializer=rpc_pb2.RangeResponse.FromString)
        request = rpc_pb2.RangeRequest(key=b"abc")
        assert (await call(request.SerializeToString(), timeout=10)).count == 3
        answer = await told(port, post("/v3/kv/range", b'{"key":"YWJj"}'), until=b"}")
        assert answer.endswith(b'\r\n\r\n{"count":"3"}')


@pytest.mark.parametrize("cut", [1, 3, 5])
async def test_a_request_that_begins_like_the_preface_is_still_http_1(cut):
    wire = b"PRI /version HTTP/1.1\r\nHost: x\r\n\r\n"
    async with served() as (port, _):
        answer = await told(port, wire[:cut], wire[cut:], until=b"\r\n")
        assert answer.startswith(b"HTTP/1.1 405 ")


async def test_who_says_nothing_is_cut():
    async with served(Limits(preface_seconds_max=0.2)) as (port, _):
        assert await told(port) == b""
        assert await told(port, b"PRI * HT") == b""


async def test_connections_of_both_protocols_are_limited_together():
    async with served(Limits(connections_max=2)) as (port, _):
        undecided = await asyncio.open_connection("127.0.0.1", port)
        http_1 = await asyncio.open_connection("127.0.0.1", port)
        http_1[1].write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        await http_1[0].readuntil(b"200")
        assert await told(port) == b""
        undecided[1].close()
        http_1[1].close()


async def test_a_watcher_that_leaves_ends_its_handler():
    async with served() as (port, handlers):
        watch = post("/v3/watch", b'{"create_request":{}}')
        assert b'{"result":{"created":true}}\n' in await told(port, watch, until=b"}}\n")
        async with asyncio.timeout(10):
            await handlers.left.wait()


async def test_a_body_without_end_is_refused():
    async with served() as (port, _):
        head = b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
        answer = await told(port, head + bytes(2_000_000), until=b"\r\n")
        assert answer.startswith(b"HTTP/1.1 429 ")


async def test_a_host_that_is_not_listed_is_refused():
    async with served(hosts=("kvshim.test",)) as (port, _):
        wire = b"GET /version HTTP/1.1\r\nHost: %s\r\n\r\n"
        assert b" 421 " in await told(port, wire % b"evil.test:80", until=b"\r\n")
        assert b" 200 " in await told(port, wire % b"kvshim.test:80", until=b"\r\n")
