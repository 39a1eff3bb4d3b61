"""Clients that another member serves: the stories of a server, told of two with a member's
connection between, and who may have clients served."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from kvshim.config import Url
from kvshim.metrics.registry import Metrics
from kvshim.transport.carried import CarryingFront
from kvshim.transport.http2.server import Http2Server
from kvshim.transport.options import ServerOptions
from raft.transport import CarriedClient
from raft.types import MemberId
from tests.raft_transport.members import Host, host, hosts
from tests.raft_transport.test_tls import Ca, ca, named_as_it_says
from tests.transport import serving as served_by
from tests.transport import test_grpcio_calls as calls
from tests.transport import test_grpcio_server as server
from tests.transport import test_grpcio_tls as tls
from tests.transport.certs import Authority
from tests.transport.serving import LogBook, serving, unary
from tests.transport.test_grpcio_tls import authority

ONE, TWO = MemberId(1), MemberId(2)

__all__ = ["authority", "ca"]

ELSEWHERE = {
    "test_a_compressed_message_is_refused",
    "test_flags_that_grpcio_cannot_obey_are_refused_by_name",
    "test_cipher_suites_that_come_after_grpc_was_loaded_are_refused",
    "test_only_allowed_hostnames_are_served",
}
"""What only grpcio does; and names that are not welcome, which are refused when they connect."""

globals().update(
    {
        name: story
        for module in (calls, server, tls)
        for name, story in vars(module).items()
        if name.startswith("test_") and name not in ELSEWHERE
    }
)


class Anybody:
    """A `ClientTaker` on a server."""

    def __init__(self, server: Http2Server, reason: str | None = None) -> None:
        self.server = server
        self.reason = reason
        self.taken: list[CarriedClient] = []

    def refusal(self) -> str | None:
        return self.reason

    def take(self, client: CarriedClient, transport: asyncio.Transport) -> None:
        self.taken.append(client)
        self.server.serve(client, transport)


class CarriedServer:
    """A server that clients connect to, one that serves them, and two members' transports."""

    directory: Path
    authority: Ca

    def __init__(self, methods: Any, options: Any, metrics: Any, log: Any, *args: Any) -> None:
        inner = replace(options, listen_urls=())
        self.serving = Http2Server(methods, inner, metrics, log, *args)
        self.front = Http2Server(methods, options, Metrics().calls, log, detour=self)
        self._members: list[Host] = []

    def wanted(self) -> bool:
        return True

    async def carry(self, client: CarriedClient) -> asyncio.Transport:
        return await self._members[0].transport.carry(TWO, client)

    def bind(self) -> list[Url]:
        return self.front.bind()

    async def start(self) -> None:
        self._members = [
            await host(
                number,
                self.directory,
                tls=True,
                authorize=named_as_it_says,
                **self.authority.contexts(number),
            )
            for number in (1, 2)
        ]
        one, two = self._members
        one.transport.set_known({TWO: [two.url]})
        self.taker = Anybody(self.serving)
        two.transport.serve_clients(self.taker)
        await self.serving.start()
        await self.front.start()

    async def stop(self, grace_seconds: float) -> None:
        await self.serving.stop(grace_seconds)
        await self.front.stop(grace_seconds)
        for member in self._members:
            await member.stop()


@pytest.fixture(autouse=True)
def _carried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ca: Ca) -> None:
    CarriedServer.directory, CarriedServer.authority = tmp_path, ca
    monkeypatch.setattr(served_by, "GrpcioServer", CarriedServer)


async def between(tmp_path: Path, ca: Ca, *, with_tls: bool = True) -> tuple[Host, Host]:
    """Two members."""
    one, two = [
        await host(number, tmp_path, tls=True, authorize=named_as_it_says, **ca.contexts(number))
        if with_tls
        else await host(number, tmp_path)
        for number in (1, 2)
    ]
    one.transport.set_known({TWO: [two.url]})
    return one, two


CLIENT = CarriedClient("192.0.2.7", 4711)


async def test_who_the_client_is_goes_along(tmp_path: Path, ca: Ca) -> None:
    async with serving() as served:
        await served.unary(b"four")
        (call,) = served.handlers.calls
        (client,) = served.server.taker.taken  # type: ignore[attr-defined]
        assert call.peer == f"{client.host}:{client.port}"
        assert call.peer != served.urls[0].address


async def test_a_member_that_takes_no_clients_says_so(tmp_path: Path, ca: Ca) -> None:
    async with hosts(*await between(tmp_path, ca)) as (one, two):
        with pytest.raises(OSError, match="no clients are taken here"):
            await one.transport.carry(TWO, CLIENT)
        server = Http2Server([], ServerOptions(()), Metrics().calls, LogBook())
        two.transport.serve_clients(Anybody(server, "not now"))
        with pytest.raises(OSError, match="not now"):
            await one.transport.carry(TWO, CLIENT)
        with pytest.raises(OSError, match="is not known"):
            await one.transport.carry(MemberId(3), CLIENT)


async def test_without_tls_between_members_no_client_is_taken(tmp_path: Path, ca: Ca) -> None:
    """Whoever could say who a client is could be anybody."""
    async with hosts(*await between(tmp_path, ca, with_tls=False)) as (one, two):
        server = Http2Server([], ServerOptions(()), Metrics().calls, LogBook())
        two.transport.serve_clients(Anybody(server))
        with pytest.raises(OSError, match="mutual TLS alone"):
            await one.transport.carry(TWO, CLIENT)


async def test_only_allowed_names_are_carried(authority: Authority) -> None:
    """The member that the client connects to goes by its own flags, as does the one that serves."""
    options = tls.options_for(
        authority.issue("server"),
        trusted_ca_file=authority.ca_file,
        allowed_hostnames=("api.example.org",),
    )
    welcome = authority.issue("welcome", ["*.example.org"])
    other = authority.issue("other", ["api.example.com"])
    async with serving(options) as served:
        async with tls.secure_channel(served, authority, welcome) as channel:
            assert (await unary(channel, b"four", timeout=5)).count == 4
        async with tls.secure_channel(served, authority, other) as channel:
            assert (await tls.refused(channel)).code() == grpc.StatusCode.UNAVAILABLE
        served.server.front._carrying._policy = None  # type: ignore[attr-defined]
        async with tls.secure_channel(served, authority, other) as channel:
            assert (await tls.refused(channel)).code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_client_that_nobody_serves_is_not_left_waiting(tmp_path: Path) -> None:
    async with serving() as served:
        await served.server._members[1].stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.unary(b"x", timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_what_a_client_says_before_it_is_carried_comes_first() -> None:
    # given connections that are read at once, as by asyncio of Python 3.11.2 even if told not to
    found = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    far = await asyncio.start_server(echo, "127.0.0.1", 0)

    async def carry(_client: CarriedClient) -> asyncio.Transport:
        await found.wait()
        where = far.sockets[0].getsockname()[:2]
        return (await asyncio.get_running_loop().create_connection(asyncio.Protocol, *where))[0]

    front = CarryingFront(carry, None, 10)

    def restless() -> asyncio.BaseProtocol:
        protocol = front.protocol()
        made = protocol.connection_made

        def connection_made(transport: asyncio.BaseTransport) -> None:
            made(transport)
            assert isinstance(transport, asyncio.Transport)
            transport.resume_reading()

        protocol.connection_made = connection_made  # type: ignore[method-assign]
        return protocol

    near = await asyncio.get_running_loop().create_server(restless, "127.0.0.1", 0)
    async with far, near, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*near.sockets[0].getsockname()[:2])
        said = random.Random(1).randbytes(20_000_000)
        # when it speaks before anybody serves it, and goes on
        writer.write(said[:1000])
        await asyncio.sleep(0.1)
        sending = asyncio.create_task(_send(writer, said[1000:]))
        await asyncio.sleep(0.1)
        assert not sending.done(), "what waits is bounded: the front stops reading"
        found.set()
        # then all of it arrives, in order
        assert await reader.readexactly(len(said)) == said
        await sending
        writer.close()
        front.close()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.transport.set_write_buffer_limits(0)
    writer.write(data)
    await writer.drain()
