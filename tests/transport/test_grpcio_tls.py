"""TLS of the grpcio transport, with real certificates and a grpc client."""

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError

from kvshim.config import Scheme, TlsVersion, Url
from kvshim.errors import StartupError
from kvshim.transport.grpcio_server import GrpcioOptions
from kvshim.transport.tls import TlsOptions
from tests.transport.certs import Authority, Issued
from tests.transport.serving import LOCAL, Served, serving, unary

SECURE = Url(Scheme.HTTPS, "127.0.0.1", 0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def options_for(server: Issued, **tls: Any) -> GrpcioOptions:
    return GrpcioOptions(
        listen_urls=(SECURE,), tls=TlsOptions(server.cert_file, server.key_file, **tls)
    )


@asynccontextmanager
async def secure_channel(
    served: Served, ca: Authority, client: Issued | None = None
) -> AsyncIterator[Any]:
    credentials = grpc.ssl_channel_credentials(
        root_certificates=ca.ca_file.read_bytes(),
        private_key=client.key_pem if client else None,
        certificate_chain=client.cert_pem if client else None,
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.aio.secure_channel(served.urls[0].address, credentials, options=options)
    try:
        yield channel
    finally:
        await channel.close()


async def refused(channel: Any) -> AioRpcError:
    with pytest.raises(AioRpcError) as caught:
        await unary(channel, b"x", timeout=3)
    return caught.value


async def test_a_client_that_trusts_the_ca_is_served(authority: Authority):
    async with (
        serving(options_for(authority.issue("server"))) as served,
        secure_channel(served, authority) as channel,
    ):
        assert (await unary(channel, b"four", timeout=5)).count == 4


async def test_plain_text_is_not_served_on_a_tls_port(authority: Authority):
    async with serving(options_for(authority.issue("server"))) as served:
        error = await refused(served.channel)
        assert error.code() == grpc.StatusCode.UNAVAILABLE


async def test_naming_a_ca_demands_client_certificates(authority: Authority, tmp_path: Path):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger").issue("client")
    options = options_for(authority.issue("server"), trusted_ca_file=authority.ca_file)
    async with serving(options) as served:
        async with secure_channel(served, authority, authority.issue("client")) as channel:
            assert (await unary(channel, b"four", timeout=5)).count == 4
        for client in (None, stranger):
            async with secure_channel(served, authority, client) as channel:
                error = await refused(channel)
                assert error.code() == grpc.StatusCode.UNAVAILABLE


async def test_only_allowed_hostnames_are_served(authority: Authority):
    options = options_for(
        authority.issue("server"),
        trusted_ca_file=authority.ca_file,
        allowed_hostnames=("api.example.org",),
    )
    welcome = authority.issue("welcome", ["*.example.org"])
    other = authority.issue("other", ["api.example.com"])
    async with serving(options) as served:
        async with secure_channel(served, authority, welcome) as channel:
            assert (await unary(channel, b"four", timeout=5)).count == 4
        async with secure_channel(served, authority, other) as channel:
            error = await refused(channel)
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            stream = channel.stream_stream("/test.Handlers/Bidi")()
            with pytest.raises(AioRpcError, match="client certificate authentication failed"):
                await stream.read()


async def test_revoked_certificates_are_refused_once_the_list_says_so(authority: Authority):
    client = authority.issue("client")
    crl_file = authority.revoke()
    options = options_for(
        authority.issue("server"), trusted_ca_file=authority.ca_file, crl_file=crl_file
    )
    async with serving(options) as served, secure_channel(served, authority, client) as channel:
        assert (await unary(channel, b"four", timeout=5)).count == 4
        authority.revoke(client)
        os.utime(crl_file, ns=(1, 1))
        error = await refused(channel)
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_renewed_certificates_are_served_to_new_connections(
    authority: Authority, tmp_path: Path
):
    options = options_for(authority.issue("server"))
    (tmp_path / "new").mkdir()
    renewer = Authority(tmp_path / "new", "renewer")
    renewed = renewer.issue("server")
    async with serving(options) as served:
        async with secure_channel(served, authority) as channel:
            await unary(channel, b"x", timeout=5)
        assert options.tls is not None
        options.tls.cert_file.write_bytes(renewed.cert_pem)
        async with secure_channel(served, authority) as channel:
            await unary(channel, b"half renewed: the old pair stays", timeout=5)
        options.tls.key_file.write_bytes(renewed.key_pem)
        async with secure_channel(served, renewer) as channel:
            await unary(channel, b"x", timeout=5)
        [(level, _, fields)] = served.log.lines
        assert level == "warn"
        assert "does not belong to" in fields["advice"]


async def test_plain_and_secure_addresses_together(authority: Authority):
    server = authority.issue("server")
    options = GrpcioOptions(
        listen_urls=(SECURE, LOCAL), tls=TlsOptions(server.cert_file, server.key_file)
    )
    async with serving(options) as served:
        async with secure_channel(served, authority) as channel:
            assert (await unary(channel, b"four", timeout=5)).count == 4
        async with grpc.aio.insecure_channel(served.urls[1].address) as channel:
            assert (await unary(channel, b"four", timeout=5)).count == 4


async def test_flags_that_grpcio_cannot_obey_are_refused_by_name(authority: Authority):
    server = authority.issue("server")
    for flags, name in (
        ({"min_version": TlsVersion.TLS13}, "--tls-min-version"),
        ({"max_version": TlsVersion.TLS12}, "--tls-max-version"),
    ):
        with pytest.raises(StartupError, match=name):
            async with serving(options_for(server, **flags)):
                pass


async def test_https_without_a_certificate_is_refused():
    with pytest.raises(StartupError, match="--cert-file, --key-file"):
        async with serving(GrpcioOptions(listen_urls=(SECURE,))):
            pass


async def test_cipher_suites_that_come_after_grpc_was_loaded_are_refused(authority: Authority):
    options = options_for(
        authority.issue("server"), cipher_suites=("TLS_RSA_WITH_AES_128_CBC_SHA",)
    )
    with pytest.raises(StartupError, match="--cipher-suites came too late"):
        async with serving(options):
            pass


CIPHER_SERVER = """
import asyncio, sys
from pathlib import Path
from kvshim.transport import grpcio_environment
grpcio_environment.prepare([sys.argv[3]])
from kvshim.config import Scheme, Url
from kvshim.transport.grpcio_server import GrpcioOptions
from kvshim.transport.tls import TlsOptions
from tests.transport.serving import serving

async def main():
    tls = TlsOptions(Path(sys.argv[1]), Path(sys.argv[2]), cipher_suites=(sys.argv[3],))
    url = Url(Scheme.HTTPS, "127.0.0.1", 0)
    async with serving(GrpcioOptions(listen_urls=(url,), tls=tls)) as served:
        print(served.urls[0].port, flush=True)
        await asyncio.sleep(30)

asyncio.run(main())
"""


def test_cipher_suites_are_obeyed(authority: Authority):
    """In a process of its own, since grpc reads its list of ciphers when it is loaded."""
    server = authority.issue("server")
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    process = subprocess.Popen(
        [sys.executable, "-c", CIPHER_SERVER, server.cert_file, server.key_file, suite],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert tls12_cipher(port, "ECDHE-ECDSA-AES256-GCM-SHA384") is not None
        assert tls12_cipher(port, "ECDHE-ECDSA-AES128-GCM-SHA256") is None
    finally:
        process.terminate()
        _, stderr = process.communicate(timeout=10)
    assert "ssl_transport_security" not in stderr, "grpc core keeps quiet about handshakes"


def tls12_cipher(port: int, cipher: str) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain) as secure:
                chosen = secure.cipher()
                return chosen[0] if chosen else None
        except (ssl.SSLError, ConnectionError):
            return None
