"""TLS between members by etcd's `--peer-*` flags: contexts for both sides and who is welcome.

Renewed files are taken over at the next handshake, as towards clients. Event loop.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvshim.config import PeerTls
from kvshim.transport.client_certs import CertificateRefused, ClientCertificatePolicy
from kvshim.transport.self_signed import ensure_self_signed
from kvshim.transport.tls import CurrentKeyPair, KeyPair, TlsOptions, Warn
from kvshim.transport.tls_context import VERSIONS, server_context
from raft.transport import Authorize, Hello, PeerCertificate
from raft.transport.options import authorize_all


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """What `raft.transport.TransportOptions` takes under the names server_tls, client_tls..."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    authorize: Authorize


def peer_credentials(
    tls: PeerTls, data_dir: Path, hosts: Sequence[str], warn: Warn
) -> PeerCredentials | None:
    """The contexts of these flags, or None if they name no certificate.

    `hosts` go into a certificate of `--peer-auto-tls`, which is kept under `data_dir`. Raises
    `StartupError`.
    """
    if not tls.available:
        return None
    cert, key = tls.cert_file, tls.key_file
    if cert is None or key is None:
        directory = data_dir / "fixtures" / "peer"
        cert, key = ensure_self_signed(directory, hosts, tls.self_signed_validity_years)
    options = TlsOptions(
        cert,
        key,
        trusted_ca_file=tls.trusted_ca_file,
        client_cert_auth=tls.client_cert_auth,
        allowed_hostnames=tls.allowed_hostnames,
        allowed_common_names=tls.allowed_cns,
        crl_file=tls.crl_file,
        min_version=tls.min_version,
        max_version=tls.max_version,
        cipher_suites=tls.cipher_suites,
    )
    shown = replace(
        options, cert_file=tls.client_cert_file or cert, key_file=tls.client_key_file or key
    )
    policy = ClientCertificatePolicy.of(options)
    return PeerCredentials(
        server_context(options, (), warn),
        RenewedClientContext.of(shown, warn, verify=not tls.auto_tls),
        authorize_all if policy is None else _authorize_by(policy),
    )


class RenewedClientContext(ssl.SSLContext):
    """A client's context of which each connection begins with the files as they are then."""

    _options: TlsOptions
    _current: CurrentKeyPair
    _verify: bool
    _warn: Warn
    _loaded: KeyPair
    _latest: ssl.SSLContext

    @classmethod
    def of(cls, options: TlsOptions, warn: Warn, *, verify: bool) -> RenewedClientContext:
        """Raises `StartupError` for files that cannot be used."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._options, context._verify = options, verify
        context._current = CurrentKeyPair(options, warn)
        context._loaded = context._current.get()
        context._latest = _client_context(options, verify=verify)
        context._warn = warn
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the signature of ssl
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection."""
        pair = self._current.get()
        if pair is not self._loaded:
            try:
                self._latest = _client_context(self._options, verify=self._verify)
                self._loaded = pair
            except OSError as error:
                self._warn(f"TLS cannot use {self._options.cert_file}: {error}")
        return self._latest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _client_context(options: TlsOptions, *, verify: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[options.min_version]
    if options.max_version is not None:
        context.maximum_version = VERSIONS[options.max_version]
    if not verify:
        # Certificates that members made for themselves protect against listening in, no more.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.trusted_ca_file is not None:
        context.load_verify_locations(cafile=options.trusted_ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.load_cert_chain(options.cert_file, options.key_file)
    return context


def _authorize_by(policy: ClientCertificatePolicy) -> Authorize:
    def authorize(certificate: PeerCertificate | None, _hello: Hello) -> str | None:
        if certificate is None:
            return "it showed no certificate, which the --peer-cert-* flags demand"
        try:
            policy.admit(ssl.DER_cert_to_PEM_cert(certificate.der).encode())
        except CertificateRefused:
            return "its certificate is not among those that the --peer-* flags allow"
        return None

    return authorize
