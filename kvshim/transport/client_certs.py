"""Which verified client certificates are welcome: `--client-cert-allowed-hostname` and the CRL.

The TLS library has checked the chain before; this looks at names and serial numbers, as etcd
does. Answers are kept per certificate until the revocation list changes. Event loop only.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvshim.errors import Code, RequestError, StartupError
from kvshim.lazy import Lazily
from kvshim.transport.tls import TlsOptions

if TYPE_CHECKING:
    from cryptography import x509
else:
    x509 = Lazily("cryptography.x509")

CERTIFICATES_REMEMBERED_MAX = 1024


class CertificateRefused(RequestError):
    """etcd fails the handshake; behind a TLS library without hooks, each call fails instead."""

    code, text = Code.UNAUTHENTICATED, "client certificate authentication failed"


class ClientCertificatePolicy:
    """Admits or refuses the leaf certificate that a client has proved to own."""

    def __init__(
        self,
        allowed_hostnames: Sequence[str],
        allowed_common_names: Sequence[str],
        crl_file: Path | None,
    ) -> None:
        if allowed_hostnames and allowed_common_names:
            raise StartupError("allowed hostnames and allowed common names exclude each other")
        self._hostnames = tuple(allowed_hostnames)
        self._common_names = frozenset(allowed_common_names)
        self._crl_file = crl_file
        self._crl_stamp = 0
        self._revoked: frozenset[int] = frozenset()
        self._answers: dict[bytes, bool] = {}
        if crl_file is not None:
            self._revoked = _revoked_serials(crl_file)
            self._crl_stamp = os.stat(crl_file).st_mtime_ns

    @classmethod
    def of(cls, options: TlsOptions) -> ClientCertificatePolicy | None:
        """The policy of these flags, or None if they admit every verified certificate."""
        if not (options.allowed_hostnames or options.allowed_common_names or options.crl_file):
            return None
        return cls(options.allowed_hostnames, options.allowed_common_names, options.crl_file)

    def admit(self, pem: bytes) -> None:
        """Raise CertificateRefused unless the certificate is welcome."""
        self._refresh_crl()
        answer = self._answers.get(pem)
        if answer is None:
            answer = self._decide(pem)
            if len(self._answers) >= CERTIFICATES_REMEMBERED_MAX:
                self._answers.clear()
            self._answers[pem] = answer
        if not answer:
            raise CertificateRefused

    def _decide(self, pem: bytes) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
        except ValueError:
            return False
        if certificate.serial_number in self._revoked:
            return False
        if self._common_names:
            return common_name(certificate) in self._common_names
        if self._hostnames:
            return any(matches_hostname(certificate, name) for name in self._hostnames)
        return True

    def _refresh_crl(self) -> None:
        if self._crl_file is None:
            return
        try:
            stamp = os.stat(self._crl_file).st_mtime_ns
            if stamp == self._crl_stamp:
                return
            self._revoked = _revoked_serials(self._crl_file)
        except (OSError, StartupError) as error:
            # A list that cannot be read may revoke anybody, so nobody is admitted.
            raise CertificateRefused from error
        self._crl_stamp = stamp
        self._answers.clear()


def peer_certificate(connection: ssl.SSLObject) -> bytes:
    """The leaf certificate of a finished handshake as PEM; CertificateRefused without one."""
    der = connection.getpeercert(binary_form=True)
    if der is None:
        raise CertificateRefused
    return ssl.DER_cert_to_PEM_cert(der).encode()


def common_name_of(pem: bytes) -> str | None:
    """The common name in a certificate that the handshake has verified."""
    try:
        return common_name(x509.load_pem_x509_certificate(pem))
    except ValueError:
        return None


def connection_name(connection: ssl.SSLObject | None) -> str | None:
    """The common name of whoever is at the other end of a TLS connection, if that is known."""
    der = None if connection is None else connection.getpeercert(binary_form=True)
    return None if der is None else common_name_of(ssl.DER_cert_to_PEM_cert(der).encode())


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, of several the last, or nothing."""
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(attributes[-1].value) if attributes else ""


def matches_hostname(certificate: x509.Certificate, host: str) -> bool:
    """Whether a subject alternative name covers `host`, by RFC 6125 with a whole-label wildcard."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass
    wanted = host.lower().rstrip(".")
    _, _, parent = wanted.partition(".")
    known = {name.lower().rstrip(".") for name in names.get_values_for_type(x509.DNSName)}
    return wanted in known or (bool(parent) and f"*.{parent}" in known)


def _revoked_serials(path: Path) -> frozenset[int]:
    """etcd reads a CRL in DER form; PEM, which tools write as well, is taken too."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read the revocation list {path}: {error.strerror}") from error
    try:
        is_pem = data.lstrip().startswith(b"-----BEGIN")
        revocations = x509.load_pem_x509_crl(data) if is_pem else x509.load_der_x509_crl(data)
    except ValueError:
        raise StartupError(f"the revocation list {path} is not a readable X.509 CRL") from None
    return frozenset(entry.serial_number for entry in revocations)
