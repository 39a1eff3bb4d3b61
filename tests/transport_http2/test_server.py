"""Addresses, pings, limits, TLS and the end, told by the same stories as of grpcio."""

import asyncio
import contextlib

from kvshim.config import TlsVersion
from kvshim.metrics.registry import Metrics
from kvshim.transport.http2.limits import Limits
from kvshim.transport.http2.server import Http2Server
from tests.transport import test_grpcio_server as server
from tests.transport import test_grpcio_tls as tls
from tests.transport.certs import Authority
from tests.transport.serving import RANGE, SERVICE, LogBook, serving, unary
from tests.transport.test_grpcio_tls import authority

OF_GRPCIO_ALONE = {
    "test_the_defaults_are_etcds",
    "test_flags_that_grpcio_cannot_obey_are_refused_by_name",
    "test_cipher_suites_that_come_after_grpc_was_loaded_are_refused",
    "test_cipher_suites_are_obeyed",
}
__all__ = ["authority"]

globals().update(
    {
        name: story
        for module in (server, tls)
        for name, story in vars(module).items()
        if name.startswith("test_") and name not in OF_GRPCIO_ALONE
    }
)


async def test_the_lowest_version_of_tls_is_obeyed(authority: Authority):
    suite = "ECDHE-ECDSA-AES128-GCM-SHA256"
    for version, chosen in ((TlsVersion.TLS12, suite), (TlsVersion.TLS13, None)):
        options = tls.options_for(authority.issue("server"), min_version=version)
        async with serving(options) as served:
            port = served.urls[0].port
            assert await asyncio.to_thread(tls.tls12_cipher, port, suite) == chosen
            async with tls.secure_channel(served, authority) as channel:
                assert (await unary(channel, b"four", timeout=5)).count == 4


async def test_cipher_suites_are_obeyed(authority: Authority):
    suites = ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",)
    async with serving(tls.options_for(authority.issue("server"), cipher_suites=suites)) as served:
        port = served.urls[0].port
        for name, chosen in (
            ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
            ("ECDHE-ECDSA-AES128-GCM-SHA256", None),
        ):
            assert await asyncio.to_thread(tls.tls12_cipher, port, name) == chosen


async def test_a_client_that_does_not_finish_its_handshake_is_cut_off(authority: Authority):
    options = tls.options_for(authority.issue("server"))
    limits = Limits(handshake_seconds_max=0.3)
    server = Http2Server([], options, Metrics().calls, LogBook(), limits)
    [url] = server.bind()
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    await server.stop(0)


async def test_a_large_response_over_tls_waits_for_its_client(authority: Authority):
    async with (
        serving(tls.options_for(authority.issue("server"))) as served,
        tls.secure_channel(served, authority) as channel,
    ):
        call = channel.stream_stream(SERVICE + "Bidi", RANGE.SerializeToString)
        stream = call()
        await stream.write(RANGE(key=b"flood"))
        for _ in range(100):
            assert len(await stream.read()) == 100_000
        stream.cancel()
        async with asyncio.timeout(5):
            while served.handlers.cancelled != ["bidi"]:  # noqa: ASYNC110 - a list, not an event
                await asyncio.sleep(0.01)
