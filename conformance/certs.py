"""The certificates and keys that one throwaway server needs, made in a directory.

One CA signs the serving certificate and one client certificate; a key apart signs kube-apiserver's
service-account tokens. Files only, no process, no network.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class CertFiles:
    """Where everything was written, as flags and kubeconfigs name it."""

    ca_cert: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    service_account_key: Path


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    cert: x509.Certificate


def write_certs(directory: Path) -> CertFiles:
    """Makes a fresh set under `directory`, keys readable by the owner only."""
    directory.mkdir(parents=True, exist_ok=True)
    files = CertFiles(
        ca_cert=directory / "ca.crt",
        server_cert=directory / "server.crt",
        server_key=directory / "server.key",
        client_cert=directory / "client.crt",
        client_key=directory / "client.key",
        service_account_key=directory / "service-account.key",
    )
    authority = _make_authority()
    files.ca_cert.write_bytes(_pem(authority.cert))
    server_names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    _issue(
        authority,
        _name("server"),
        # etcd and kubeadm use the serving certificate as a client certificate, too.
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        (files.server_cert, files.server_key),
        server_names,
    )
    # The group that kube-apiserver binds to cluster-admin by itself.
    _issue(
        authority,
        _name("story", organization="system:masters"),
        [ExtendedKeyUsageOID.CLIENT_AUTH],
        (files.client_cert, files.client_key),
    )
    _write_key(files.service_account_key, ec.generate_private_key(ec.SECP256R1()))
    return files


def _make_authority() -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("story-ca")
    builder = _builder(name, name, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    return _Authority(key, builder.sign(key, hashes.SHA256()))


def _issue(
    authority: _Authority,
    subject: x509.Name,
    usages: list[x509.ObjectIdentifier],
    out: tuple[Path, Path],
    alternative_names: x509.SubjectAlternativeName | None = None,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, authority.cert.subject, key).add_extension(
        x509.ExtendedKeyUsage(usages), critical=False
    )
    if alternative_names is not None:
        builder = builder.add_extension(alternative_names, critical=False)
    cert_path, key_path = out
    cert_path.write_bytes(_pem(builder.sign(authority.key, hashes.SHA256())))
    _write_key(key_path, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALID_FOR)
    )


def _name(common_name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """In the older PEM form, since the API server knows no other for service-account keys."""
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
