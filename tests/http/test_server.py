"""The HTTP/1.1 server: keep-alive, TLS, and clients that are slow, silent or too talkative."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kvshim.config import Scheme, Url
from kvshim.errors import StartupError
from kvshim.http.limits import Limits
from kvshim.http.pages import Versions, metrics_routes, version_routes
from kvshim.http.routes import Request, Response, Router
from kvshim.http.server import HttpServer
from kvshim.metrics.registry import Metrics
from kvshim.transport.tls import TlsOptions
from tests.transport.certs import Authority, Issued
from tests.transport.serving import LogBook

PLAIN = Url(Scheme.HTTP, "127.0.0.1", 0)
SECURE = Url(Scheme.HTTPS, "127.0.0.1", 0)
GET_VERSION = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
VERSION_BODY = b'{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}'


async def big_page(_request: Request) -> Response:
    return Response(200, "text/plain", b"x" * 20_000_000)


@asynccontextmanager
async def serving_http(
    limits: Limits | None = None, url: Url = PLAIN, tls: TlsOptions | None = None
) -> AsyncIterator[tuple[HttpServer, Url, LogBook]]:
    log = LogBook()
    routes = {
        **version_routes(lambda: Versions("3.7.3", "3.7.0", "3.7.0")),
        **metrics_routes(Metrics()),
        "/big": big_page,
    }
    server = HttpServer(Router(routes, log), tls, log, limits)
    try:
        bound = server.bind(url)
        await server.start()
        yield server, bound, log
    finally:
        await server.stop()


async def connect(url: Url, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", url.port, **options)


async def read_response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    lines = (line.split(": ", 1) for line in head[1:] if line)
    headers = {name.lower(): value for name, value in lines}
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split(" ")[1]), headers, body


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes, which is a reset if it had not read everything."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def exchange(url: Url, data: bytes, seconds: float = 5) -> bytes:
    """Everything the server says to `data` until it closes."""
    reader, writer = await connect(url)
    writer.write(data)
    try:
        async with asyncio.timeout(seconds):
            return await read_to_end(reader)
    finally:
        writer.close()


async def test_several_requests_on_one_connection():
    async with serving_http() as (_, url, _log):
        reader, writer = await connect(url)
        for _ in range(3):
            writer.write(GET_VERSION)
            status, headers, body = await read_response(reader)
            assert (status, body) == (200, VERSION_BODY)
            assert headers["content-type"] == "application/json"
        writer.write(GET_VERSION + GET_VERSION)
        assert [(await read_response(reader))[0] for _ in range(2)] == [200, 200], "pipelined"
        writer.close()


async def test_metrics_in_prometheus_text():
    async with serving_http() as (_, url, _log):
        reader, writer = await connect(url)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        status, headers, body = await read_response(reader)
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b"\netcd_server_slow_apply_total 0.0\n" in body
        assert b"\nprocess_resident_memory_bytes " in body
        writer.close()


async def test_head_has_the_length_but_no_body():
    async with serving_http() as (_, url, _log):
        request = b"HEAD /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await exchange(url, request)
        assert b"200" in answer.split(b"\r\n")[0]
        assert f"content-length: {len(VERSION_BODY)}".encode() in answer.lower()
        assert answer.endswith(b"\r\n\r\n")


async def test_other_methods_are_not_allowed():
    async with serving_http() as (_, url, _log):
        request = b"POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        reader, writer = await connect(url)
        writer.write(request)
        status, headers, body = await read_response(reader)
        assert (status, headers["allow"], body) == (405, "GET", b"Method Not Allowed\n")
        writer.write(GET_VERSION)
        assert (await read_response(reader))[0] == 200
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /version HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000, b"413"),
        (b"GET /version?" + b"a=1&" * 100 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    ],
)
async def test_bad_requests_are_answered_and_the_connection_closed(sent: bytes, status: bytes):
    async with serving_http() as (_, url, log):
        answer = await exchange(url, sent)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert log.lines == []


async def test_a_client_that_sends_slowly_is_dropped():
    async with serving_http(Limits(request_seconds_max=0.3)) as (_, url, _log):
        reader, writer = await connect(url)
        began = asyncio.get_running_loop().time()

        async def drip() -> None:
            for byte in GET_VERSION:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(5):
            assert await read_to_end(reader) == b""
        assert asyncio.get_running_loop().time() - began < 1.5
        dripping.cancel()
        writer.close()


async def test_a_client_that_says_nothing_is_dropped():
    async with serving_http(Limits(request_seconds_max=0.2)) as (_, url, _log):
        assert await exchange(url, b"") == b""


async def test_an_idle_connection_is_closed():
    async with serving_http(Limits(idle_seconds_max=0.2)) as (_, url, _log):
        answer = await exchange(url, GET_VERSION, seconds=2)
        assert answer.endswith(VERSION_BODY)


async def test_a_client_that_reads_slowly_is_dropped():
    limits = Limits(response_seconds_max=0.3)
    async with serving_http(limits) as (server, url, _log):
        reader, writer = await connect(url, limit=1024)
        writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        assert server.connections == 1
        async with asyncio.timeout(5):
            while server.connections:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0.05)
        writer.close()
        del reader


async def test_connections_above_the_cap_are_closed():
    async with serving_http(Limits(connections_max=2)) as (_, url, log):
        held = [await connect(url) for _ in range(2)]
        for _reader, writer in held:
            writer.write(GET_VERSION)
        for reader, _writer in held:
            await read_response(reader)
        assert await exchange(url, GET_VERSION) == b""
        assert log.lines[0][1] == "rejected connection on client endpoint"
        held[0][1].close()
        await asyncio.sleep(0.1)
        reader, writer = await connect(url)
        writer.write(GET_VERSION)
        assert (await read_response(reader))[0] == 200
        writer.close()
        held[1][1].close()


async def test_stopping_ends_open_connections():
    async with serving_http() as (server, url, log):
        reader, writer = await connect(url)
        writer.write(GET_VERSION)
        await read_response(reader)
        async with asyncio.timeout(2):
            await server.stop()
            assert await read_to_end(reader) == b""
        with pytest.raises(ConnectionRefusedError):
            await connect(url)
        assert log.lines == []
        writer.close()


async def test_a_port_in_use_is_one_sentence():
    async with serving_http() as (_, url, _log):
        with pytest.raises(StartupError, match="address is already in use"):
            async with serving_http(url=url):
                pass


async def test_a_unix_socket(tmp_path: Path):
    path = tmp_path / "metrics.sock"
    async with serving_http(url=Url(Scheme.UNIX, str(path), 0)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(GET_VERSION)
        assert (await read_response(reader))[2] == VERSION_BODY
        writer.close()
    assert not path.exists()


def client_context(authority: Authority, client: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    if client is not None:
        context.load_cert_chain(client.cert_file, client.key_file)
    return context


async def secure_version(url: Url, context: ssl.SSLContext) -> bytes:
    reader, writer = await connect(url, ssl=context, server_hostname="localhost")
    try:
        writer.write(GET_VERSION)
        async with asyncio.timeout(5):
            return (await read_response(reader))[2]
    finally:
        writer.close()


async def test_https_with_a_renewed_certificate(tmp_path: Path):
    authority = Authority(tmp_path)
    server = authority.issue("server")
    tls = TlsOptions(server.cert_file, server.key_file)
    async with serving_http(url=SECURE, tls=tls) as (_, url, log):
        assert await secure_version(url, client_context(authority)) == VERSION_BODY
        (tmp_path / "new").mkdir()
        renewer = Authority(tmp_path / "new", "renewer")
        renewed = renewer.issue("server")
        server.cert_file.write_bytes(renewed.cert_pem)
        server.key_file.write_bytes(renewed.key_pem)
        assert await secure_version(url, client_context(renewer)) == VERSION_BODY
        with pytest.raises(ssl.SSLError):
            await secure_version(url, client_context(authority))
        server.key_file.unlink()
        assert await secure_version(url, client_context(renewer)) == VERSION_BODY
        assert [level for level, _, _ in log.lines] == ["warn"]


async def test_https_with_client_certificates(tmp_path: Path):
    authority = Authority(tmp_path)
    server = authority.issue("server")
    tls = TlsOptions(
        server.cert_file,
        server.key_file,
        trusted_ca_file=authority.ca_file,
        allowed_hostnames=("probe.local",),
    )
    probe = authority.issue("probe", ["probe.local"])
    other = authority.issue("other", ["other.local"])
    async with serving_http(url=SECURE, tls=tls) as (_, url, log):
        assert await secure_version(url, client_context(authority, probe)) == VERSION_BODY
        for client in (None, other):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await secure_version(url, client_context(authority, client))
        assert [fields["reason"] for _, _, fields in log.lines] == [
            "client certificate authentication failed"
        ]


async def test_https_without_a_certificate_is_refused():
    with pytest.raises(StartupError, match="must be provided for metrics secure url"):
        async with serving_http(url=SECURE):
            pass


async def test_a_handshake_that_never_ends_is_dropped(tmp_path: Path):
    authority = Authority(tmp_path)
    server = authority.issue("server")
    tls = TlsOptions(server.cert_file, server.key_file)
    limits = Limits(handshake_seconds_max=0.2)
    async with serving_http(limits, url=SECURE, tls=tls) as (_, url, _log):
        reader, writer = await connect(url)
        async with asyncio.timeout(5):
            assert await read_to_end(reader) == b""
        writer.close()
