"""The cluster's CA and the certificates it gives its members. Pure: bytes in, bytes out.

A member's certificate says twice who it is: the common name for people, and two URIs,
`kvshim:cluster:<hex id>` and `kvshim:member:<hex id>`, for `authorize`. Every member is client and
server at once. ECDSA P-256 throughout (RFC 5280 profile; extensions as RFC 5280, 4.2).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from kvshim.errors import KvshimError
from kvshim.lazy import Lazily

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import oid
else:
    x509 = Lazily("cryptography.x509")
    hashes = Lazily("cryptography.hazmat.primitives.hashes")
    serialization = Lazily("cryptography.hazmat.primitives.serialization")
    ec = Lazily("cryptography.hazmat.primitives.asymmetric.ec")
    oid = Lazily("cryptography.x509.oid")

CA_VALIDITY: Final = timedelta(days=365 * 20)
NODE_VALIDITY: Final = timedelta(days=365)
CLOCK_SKEW: Final = timedelta(minutes=5)
"""A certificate holds from a little before it was made: clocks differ."""

CSR_BYTES_MAX: Final = 8 << 10

_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")

PrivateKey: TypeAlias = "ec.EllipticCurvePrivateKey"


class PkiError(KvshimError):
    """A certificate, key or request that cannot be used: one sentence."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds, in seconds since 1970."""

    not_before: float
    not_after: float

    def renewal_due(self, now: float) -> bool:
        """Has the last third of its life begun?"""
        return now >= self.not_after - (self.not_after - self.not_before) / 3


@dataclass(frozen=True, slots=True)
class CertificateInfo(Validity):
    """What a certificate says, for people and for checks."""

    subject: str
    hosts: tuple[str, ...]
    cluster_id: int
    member_id: int
    is_ca: bool
    fingerprint: str


class CertificateAuthority:
    """The key that makes members. Only voters hold it."""

    def __init__(self, key_pem: bytes, certificate_der: bytes) -> None:
        """Raises `PkiError` if the two do not belong together."""
        self._key = load_key(key_pem)
        self._certificate = _load_certificate(certificate_der)
        if _public_bytes(self._certificate.public_key()) != _public_bytes(self._key.public_key()):
            raise PkiError("the CA's key does not belong to the CA's certificate")
        self.key_pem = key_pem
        self.certificate_der = certificate_der

    @classmethod
    def create(cls, cluster_id: int, now: float) -> CertificateAuthority:
        """A new CA, for a cluster that begins."""
        key = new_key()
        name = _name(f"kvshim cluster {cluster_id:016x}")
        begin = _time(now)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin - CLOCK_SKEW)
            .not_valid_after(begin + CA_VALIDITY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(key_pem(key), certificate.public_bytes(serialization.Encoding.DER))

    def issue(
        self,
        csr: bytes,
        cluster_id: int,
        member_id: int,
        hosts: Iterable[str],
        now: float,
        *,
        validity: timedelta = NODE_VALIDITY,
    ) -> bytes:
        """A member's certificate (DER) for the key of `csr`; nothing else of the CSR is believed.

        Raises `PkiError` if the CSR is not one, or not signed by its own key.
        """
        public = public_key_of(csr)
        begin = _time(now)
        end = min(begin + validity, self._certificate.not_valid_after_utc)
        names: list[x509.GeneralName] = [*map(_general_name, _unique(hosts))]
        names += [
            x509.UniformResourceIdentifier(f"kvshim:cluster:{cluster_id:016x}"),
            x509.UniformResourceIdentifier(f"kvshim:member:{member_id:016x}"),
        ]
        usages = [oid.ExtendedKeyUsageOID.SERVER_AUTH, oid.ExtendedKeyUsageOID.CLIENT_AUTH]
        ca_public = self._key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(f"{member_id:016x}"))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin - CLOCK_SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_public), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.DER)


def new_key() -> PrivateKey:
    """A node's or a CA's key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """The key as a file holds it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes) -> PrivateKey:
    """Raises `PkiError`."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError("a private key file is damaged, or is not kvshim's")
    return key


def make_csr(key: PrivateKey) -> bytes:
    """A request (PKCS #10, DER) that proves possession of the key and asks for nothing more."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def public_key_of(csr: bytes) -> ec.EllipticCurvePublicKey:
    """The key that signed a request. Raises `PkiError`."""
    if len(csr) > CSR_BYTES_MAX:
        raise PkiError("the certificate request is too long")
    try:
        request = x509.load_der_x509_csr(csr)
        public, signed = request.public_key(), request.is_signature_valid
    except Exception:  # the library raises several unrelated types for what it cannot read
        raise PkiError("the certificate request cannot be read") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(
        public.curve, ec.SECP256R1
    ):
        raise PkiError("the certificate request is not for a P-256 key")
    if not signed:
        raise PkiError("the certificate request is not signed by its own key")
    return public


def key_hash(csr: bytes) -> bytes:
    """SHA-256 of the public key in a request: tells one joiner from another."""
    return hashlib.sha256(_public_bytes(public_key_of(csr))).digest()


def fingerprint(certificate_der: bytes) -> str:
    """SHA-256 of a certificate, in hex."""
    return hashlib.sha256(certificate_der).hexdigest()


def inspect(certificate_der: bytes) -> CertificateInfo:
    """What a certificate says. Raises `PkiError`."""
    certificate = _load_certificate(certificate_der)
    names = _names(certificate)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    dns = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    common = certificate.subject.get_attributes_for_oid(oid.NameOID.COMMON_NAME)
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        basic = False
    return CertificateInfo(
        subject=str(common[0].value) if common else "",
        hosts=(*dns, *map(str, addresses)),
        cluster_id=_id_in(uris, "kvshim:cluster:"),
        member_id=_id_in(uris, "kvshim:member:"),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        is_ca=basic,
        fingerprint=fingerprint(certificate_der),
    )


def authorize(certificate_der: bytes | None, cluster_id: int, member_id: int) -> str | None:
    """Why a peer with this certificate is not that member of that cluster, or None if it is.

    The TLS library has checked the chain and the time before. `member_id` 0 stands for any.
    """
    if not certificate_der:
        return "the peer showed no certificate"
    try:
        info = inspect(certificate_der)
    except PkiError as error:
        return str(error)
    if info.is_ca or not info.member_id:
        return "the peer's certificate is not a member's"
    if info.cluster_id != cluster_id:
        return f"the peer's certificate is for the cluster {info.cluster_id:016x}"
    if member_id and info.member_id != member_id:
        return f"the peer's certificate is for the member {info.member_id:016x}"
    return None


def verify_issued(certificate_der: bytes, ca_der: bytes, csr: bytes) -> None:
    """Raise `PkiError` unless this CA made the certificate, for the key of `csr`."""
    certificate = _load_certificate(certificate_der)
    try:
        certificate.verify_directly_issued_by(_load_certificate(ca_der))
    except Exception:  # InvalidSignature, ValueError and TypeError say the same here
        raise PkiError("the certificate was not made by this cluster's CA") from None
    if _public_bytes(certificate.public_key()) != _public_bytes(public_key_of(csr)):
        raise PkiError("the certificate is for another key than ours")


def _load_certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise PkiError("a certificate cannot be read") from None


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])
    except ValueError:
        raise PkiError("a certificate cannot be read") from None


def _id_in(uris: Iterable[str], prefix: str) -> int:
    for uri in uris:
        if uri.startswith(prefix):
            try:
                return int(uri.removeprefix(prefix), 16)
            except ValueError:
                return 0
    return 0


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise PkiError("a certificate's key is of a kind that kvshim does not use")
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _unique(hosts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*(host for host in hosts if host), *_LOCAL_HOSTS)))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise PkiError(f"{host} is not a host name that a certificate can carry") from None


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(oid.NameOID.ORGANIZATION_NAME, "kvshim"),
            x509.NameAttribute(oid.NameOID.COMMON_NAME, common_name),
        ]
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
