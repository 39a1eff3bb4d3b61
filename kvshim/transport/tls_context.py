"""`ssl` contexts for servers of our own, reloaded when certificates are renewed.

The context is never changed while connections use it: each ClientHello may be moved to a newer
one. Event loop, like the servers that own them.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from kvshim.config import TlsVersion
from kvshim.errors import StartupError
from kvshim.transport.tls import CurrentKeyPair, TlsOptions, Warn, openssl_ciphers

VERSIONS = {
    TlsVersion.TLS12: ssl.TLSVersion.TLSv1_2,
    TlsVersion.TLS13: ssl.TLSVersion.TLSv1_3,
}


def server_context(options: TlsOptions, alpn: Sequence[str], warn: Warn) -> ssl.SSLContext:
    """The context to listen with; it hands each handshake to one with the current files."""
    current = CurrentKeyPair(options, warn)
    loaded = current.get()
    context = latest = _fixed_context(options, alpn)

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal loaded, latest
        pair = current.get()
        if pair is not loaded:
            try:
                latest = _fixed_context(options, alpn)
                loaded = pair
            except StartupError as error:
                warn(f"{error}; the certificate read before stays in use")
        if latest is not context:
            connection.context = latest

    context.sni_callback = choose
    return context


def _fixed_context(options: TlsOptions, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[options.min_version]
    if options.max_version is not None:
        context.maximum_version = VERSIONS[options.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if alpn:
        context.set_alpn_protocols(list(alpn))
    ciphers = openssl_ciphers(options.cipher_suites)
    try:
        if ciphers:
            context.set_ciphers(ciphers)
        context.load_cert_chain(options.cert_file, options.key_file)
        if options.requires_client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            if options.trusted_ca_file is not None:
                context.load_verify_locations(cafile=options.trusted_ca_file)
            else:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(f"TLS cannot use {options.cert_file}: {error}") from error
    return context
