"""Addresses, pings, limits and the end of the grpcio transport."""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError

from kvshim.config import Scheme, Url
from kvshim.errors import StartupError
from kvshim.pb.etcd import rpc_pb2
from kvshim.transport.grpcio_server import GrpcioOptions, channel_arguments
from kvshim.transport.listeners import listen
from tests.transport.serving import LOCAL, serving, unary


async def test_a_port_in_use_is_one_sentence(capfd: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = Url(Scheme.HTTP, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StartupError) as caught:
            async with serving(GrpcioOptions(listen_urls=(url,))):
                pass
    assert str(caught.value) == (
        f"cannot listen on {url}: the address is already in use by another process"
    )
    assert capfd.readouterr().err == "", "and grpc says nothing of its own"


async def test_two_servers_cannot_share_a_port():
    async with serving() as served:
        with pytest.raises(StartupError, match="already in use"):
            async with serving(GrpcioOptions(listen_urls=(served.urls[0],))):
                pass


async def test_two_servers_share_a_port_if_asked_to():
    first = GrpcioOptions(listen_urls=(LOCAL,), reuse_port=True)
    async with serving(first) as served:
        second = GrpcioOptions(listen_urls=(served.urls[0],), reuse_port=True)
        async with serving(second) as other:
            assert (await other.unary(b"four")).count == 4


async def test_an_address_of_another_machine_is_one_sentence():
    url = Url(Scheme.HTTP, "192.0.2.1", 2379)
    with pytest.raises(StartupError, match="this machine does not have the address"):
        async with serving(GrpcioOptions(listen_urls=(url,))):
            pass


async def test_every_address_of_all_families_without_a_host():
    async with serving(GrpcioOptions(listen_urls=(Url(Scheme.HTTP, "", 0),))) as served:
        port = served.urls[0].port
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert (await unary(channel, b"four", timeout=5)).count == 4


async def test_a_unix_socket(tmp_path: Path):
    path = tmp_path / "kvshim.sock"
    url = Url(Scheme.UNIX, str(path), 0)
    listen(url).close()  # what a killed process leaves
    assert path.exists()
    async with serving(GrpcioOptions(listen_urls=(url,))) as served:
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        assert (await served.unary(b"four")).count == 4
        with pytest.raises(StartupError, match="already in use"):
            listen(url)
        await served.server.stop(0)
    assert not path.exists()


async def test_a_file_in_the_place_of_a_unix_socket_is_kept(tmp_path: Path):
    path = tmp_path / "precious"
    path.write_text("data")
    url = Url(Scheme.UNIX, str(path), 0)
    with pytest.raises(StartupError, match="is not a socket"):
        async with serving(GrpcioOptions(listen_urls=(url,))):
            pass
    assert path.read_text() == "data"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_ACK = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"kvshim!?"
PING_ACK_HEADER = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00"


async def pinged(options: GrpcioOptions, pings: int, every_seconds: float) -> bytes:
    """What a server says to a connection without calls that pings at this pace."""
    async with serving(options) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.urls[0].port)
        writer.write(PREFACE + SETTINGS + SETTINGS_ACK)
        heard = b""

        async def listen_on() -> None:
            nonlocal heard
            while data := await reader.read(4096):
                heard += data

        listening = asyncio.create_task(listen_on())
        for _ in range(pings):
            if not listening.done():
                writer.write(PING)
                await asyncio.sleep(every_seconds)
        await asyncio.wait([listening], timeout=0.3)
        listening.cancel()
        writer.close()
        return heard


async def test_idle_connections_may_ping_at_the_agreed_pace():
    options = GrpcioOptions(listen_urls=(LOCAL,), keepalive_min_time_seconds=0.3)
    heard = await pinged(options, pings=6, every_seconds=0.35)
    assert heard.count(PING_ACK_HEADER) == 6
    assert b"too_many_pings" not in heard


async def test_pings_faster_than_agreed_end_the_connection():
    options = GrpcioOptions(listen_urls=(LOCAL,))
    heard = await pinged(options, pings=6, every_seconds=0.1)
    assert b"too_many_pings" in heard


async def test_any_pace_will_do_without_a_minimum():
    options = GrpcioOptions(listen_urls=(LOCAL,), keepalive_min_time_seconds=0)
    heard = await pinged(options, pings=20, every_seconds=0.01)
    assert heard.count(PING_ACK_HEADER) == 20
    assert b"too_many_pings" not in heard


def test_the_defaults_are_etcds():
    arguments = dict(channel_arguments(GrpcioOptions(listen_urls=(LOCAL,))))
    assert arguments["grpc.http2.min_ping_interval_without_data_ms"] == 5_000
    assert arguments["grpc.keepalive_permit_without_calls"] == 1
    assert arguments["grpc.keepalive_time_ms"] == 7_200_000
    assert arguments["grpc.keepalive_timeout_ms"] == 20_000
    assert arguments["grpc.so_reuseport"] == 0
    assert arguments["grpc.max_concurrent_streams"] == 2**31 - 1


async def test_stopping_lets_unary_calls_finish_and_ends_streams():
    async with serving() as served:
        stream = served.bidi()
        await stream.write(rpc_pb2.RangeRequest(key=b"x"))
        await stream.read()
        waiting = asyncio.create_task(served.unary(b"wait"))
        served.handlers.entered.clear()
        await served.handlers.entered.wait()
        stopping = asyncio.create_task(served.server.stop(5))
        await asyncio.sleep(0.2)
        assert served.handlers.cancelled == []
        served.handlers.release.set()
        assert (await waiting).count == 4
        await ended_by_the_server(stream)
        async with asyncio.timeout(2):
            await stopping
        with pytest.raises(AioRpcError):
            await served.unary(b"x", timeout=1)


async def test_stopping_ends_calls_that_outlast_the_grace():
    async with serving() as served:
        waiting = asyncio.create_task(served.unary(b"wait"))
        await served.handlers.entered.wait()
        async with asyncio.timeout(2):
            await served.server.stop(0.2)
        with pytest.raises(AioRpcError) as caught:
            await waiting
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "etcdserver: server stopped"
        assert served.log.lines == []


async def ended_by_the_server(stream: Any) -> None:
    with pytest.raises(AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "etcdserver: server stopped"


async def test_streams_on_one_connection_are_limited():
    options = GrpcioOptions(listen_urls=(LOCAL,), concurrent_streams_max=2)
    async with serving(options) as served:
        streams = [served.bidi() for _ in range(2)]
        for stream in streams:
            await stream.write(rpc_pb2.RangeRequest(key=b"x"))
            await stream.read()
        with pytest.raises(AioRpcError) as caught:
            await served.unary(b"x", timeout=0.5)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        streams[0].cancel()
        assert (await served.unary(b"four")).count == 4
