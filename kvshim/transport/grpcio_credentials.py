"""TLS credentials for grpcio, which brings a TLS library of its own (BoringSSL).

grpcio's Python API cannot set protocol versions, and takes cipher suites only from the environment
it is loaded in. What it cannot obey is refused here, never ignored. The certificate fetcher runs
on a thread of grpc's, once a handshake.
"""

from __future__ import annotations

import grpc

from kvshim.config import TlsVersion
from kvshim.errors import StartupError
from kvshim.transport.grpcio_environment import check_prepared
from kvshim.transport.tls import CurrentKeyPair, KeyPair, TlsOptions, Warn


def server_credentials(options: TlsOptions, warn: Warn) -> object:
    """Credentials that follow the files; StartupError for flags that grpcio cannot obey."""
    _refuse_versions(options)
    check_prepared(options.cipher_suites)
    current = CurrentKeyPair(options, warn)
    served = current.get()

    def fetch() -> object:
        """The configuration for the next handshake, or None to keep the one in use."""
        nonlocal served
        pair = current.get()
        if pair is served:
            return None
        served = pair
        return _configuration(pair)

    credentials: object = grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        fetch,
        require_client_authentication=options.requires_client_certificate,
    )
    return credentials


def _configuration(pair: KeyPair) -> object:
    configuration: object = grpc.ssl_server_certificate_configuration(
        [(pair.private_key, pair.certificate)], root_certificates=pair.client_ca
    )
    return configuration


def _refuse_versions(options: TlsOptions) -> None:
    """grpcio always offers TLS 1.2 and 1.3."""
    if options.min_version is not TlsVersion.TLS12:
        raise StartupError(
            f"--tls-min-version={options.min_version.value} is not possible with --transport=grpcio"
        )
    if options.max_version is TlsVersion.TLS12:
        raise StartupError(
            f"--tls-max-version={options.max_version.value} is not possible with --transport=grpcio"
        )
