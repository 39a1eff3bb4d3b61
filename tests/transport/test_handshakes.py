"""TLS handshakes are admitted at a limited rate, and silent ones count as connections."""

import asyncio
import contextlib
import errno
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvshim.config import Scheme, Url
from kvshim.http.limits import Limits as HttpLimits
from kvshim.http.routes import Router
from kvshim.http.server import HttpServer
from kvshim.metrics.registry import Metrics
from kvshim.transport import handshakes
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.server import Http2Server
from kvshim.transport.options import ServerOptions
from kvshim.transport.tls import TlsOptions
from raft.transport.pace import Pace, Rate
from tests.support.herd import admitted, shake_hands
from tests.transport.certs import Authority
from tests.transport.serving import LogBook

SECURE = Url(Scheme.HTTPS, "127.0.0.1", 0)
SLOW = Rate(burst=2, per_second=0.001)


@pytest.fixture
def tls(tmp_path: Path) -> TlsOptions:
    issued = Authority(tmp_path).issue("server")
    return TlsOptions(issued.cert_file, issued.key_file)


@asynccontextmanager
async def clients_port(tls: TlsOptions, limits: Limits) -> AsyncIterator[tuple[int, Http2Server]]:
    options = ServerOptions(listen_urls=(SECURE,), tls=tls)
    server = Http2Server([], options, Metrics().calls, LogBook(), limits)
    [url] = server.bind()
    await server.start()
    try:
        yield url.port, server
    finally:
        await server.stop(0)


@asynccontextmanager
async def metrics_port(tls: TlsOptions, limits: HttpLimits) -> AsyncIterator[tuple[int, None]]:
    server = HttpServer(Router({}, LogBook()), tls, LogBook(), limits)
    url = server.bind(SECURE)
    await server.start()
    try:
        yield url.port, None
    finally:
        await server.stop()


PORTS = [(clients_port, Limits), (metrics_port, HttpLimits)]


@pytest.mark.parametrize(("serve", "limits"), PORTS)
async def test_a_herd_of_clients_is_admitted_at_the_rate(serve, limits, tls: TlsOptions):
    async with serve(tls, limits(handshakes=SLOW)) as (port, _):
        assert await admitted(port) == SLOW.burst


@pytest.mark.parametrize(("serve", "limits"), PORTS)
async def test_silent_clients_count_as_connections(serve, limits, tls: TlsOptions):
    async with serve(tls, limits(connections_max=3)) as (port, _):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert await reader.read() == b""
                writer.close()
        for _, writer in silent:
            writer.close()
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(ssl.SSLError, ConnectionError):
                    await shake_hands(port)
                    return
                await asyncio.sleep(0.05)


async def test_a_stop_ends_handshakes_and_frees_the_port(tls: TlsOptions):
    async with clients_port(tls, Limits()) as (port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await server.stop(0)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)


async def test_a_lack_of_descriptors_is_told_and_passes(
    tls: TlsOptions, monkeypatch: pytest.MonkeyPatch
):
    loop, told = asyncio.get_running_loop(), []
    accept, failures = loop.sock_accept, [OSError(errno.EMFILE, "Too many open files")]

    async def fail_once(sock):
        if failures:
            raise failures.pop()
        return await accept(sock)

    monkeypatch.setattr(handshakes, "ACCEPT_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(loop, "sock_accept", fail_once)
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    async with clients_port(tls, Limits()) as (port, _), asyncio.timeout(10):
        await shake_hands(port)
    assert told == ["cannot accept a connection"]


async def test_turns_come_at_the_rate():
    pace, began = Pace(Rate(burst=3, per_second=50)), time.monotonic()
    for _ in range(3):
        await pace.turn()
    assert time.monotonic() - began < 1
    for _ in range(10):
        await pace.turn()
    assert time.monotonic() - began >= 10 / 50 - 0.01
