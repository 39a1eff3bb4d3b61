"""`ssl` contexts between members: mutual TLS, no CA but the cluster's own, TLS 1.2 and up.

The CA is what makes a peer, not its host name: addresses change, and a certificate names the
member, which `authorize` checks. A context is renewed in place, so whoever holds it needs to do
nothing: OpenSSL copies key and certificate into each connection when that begins. All on the event
loop, which is what makes that safe.
"""

from __future__ import annotations

import ssl
from typing import cast

from kvshim.pki.certificates import PkiError, fingerprint
from kvshim.pki.files import Pki


class PeerTls:
    """This member's contexts. `server` lets strangers in, as far as the calls open to them."""

    def __init__(self, pki: Pki) -> None:
        """Raises `PkiError` when the files cannot be used."""
        self._pki = pki
        self.server = _context(ssl.PROTOCOL_TLS_SERVER)
        self.client = _context(ssl.PROTOCOL_TLS_CLIENT)
        # Optional, because a joiner has none; one that is shown must be of our CA and valid.
        self.server.verify_mode = ssl.CERT_OPTIONAL
        for context in (self.server, self.client):
            _load_ca(context, pki.ca_certificate())
        self.reload()

    def reload(self) -> None:
        """Use the certificate that now lies on disk for connections from now on."""
        _load_node(_context(ssl.PROTOCOL_TLS_SERVER), self._pki)  # a trial, for all or nothing
        for context in (self.server, self.client):
            _load_node(context, self._pki)


def probe_context() -> ssl.SSLContext:
    """To look at a server's certificates and hang up: checks nothing, so send it nothing."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_NONE
    return context


def joining_context(ca_certificate: bytes) -> ssl.SSLContext:
    """For one who has no certificate: the server must have one of this CA (DER)."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    _load_ca(context, ca_certificate)
    return context


def shown_ca(connection: ssl.SSLObject, ca_fingerprint: str) -> bytes:
    """The certificate of that fingerprint (DER) among those that a server showed.

    Raises `PkiError` if there is none: this is not the cluster that the token is for.
    """
    for certificate in _shown_chain(connection):
        if fingerprint(certificate) == ca_fingerprint:
            return certificate
    raise PkiError(
        "the server is not of the cluster that the token is for, so nothing was sent to it: "
        "check the address, and that nobody listens in between"
    )


def _shown_chain(connection: ssl.SSLObject) -> list[bytes]:
    """All certificates that the peer showed, DER. Public in `ssl` since Python 3.13."""
    public = getattr(connection, "get_unverified_chain", None)
    if public is not None:
        return cast("list[bytes]", public())
    encoding_der = 2  # _ssl.ENCODING_DER
    chain = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return [certificate.public_bytes(encoding_der) for certificate in chain or ()]


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if protocol == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
    return context


def _load_ca(context: ssl.SSLContext, certificate: bytes) -> None:
    try:
        context.load_verify_locations(cadata=certificate)
    except (ValueError, ssl.SSLError) as error:
        raise PkiError(f"the CA's certificate cannot be used: {error}") from None


def _load_node(context: ssl.SSLContext, pki: Pki) -> None:
    try:
        context.load_cert_chain(pki.node_file)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise PkiError(f"cannot use {pki.node_file}: {reason}") from None
