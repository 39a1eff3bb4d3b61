"""Certificates that `--auto-tls` makes for itself: one key, signed by itself, kept and reused.

They protect against listening in, not against an impostor: clients cannot check them. Files lie
where etcd puts them, `<data-dir>/fixtures/client`, readable by their owner only.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kvshim.errors import StartupError
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

CLOCK_SKEW = timedelta(minutes=5)


def ensure_self_signed(
    directory: Path, hosts: Sequence[str], validity_years: int
) -> tuple[Path, Path]:
    """Paths of certificate and key, made if they are not both there. Never replaces a pair."""
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    if cert_file.exists() and key_file.exists():
        return cert_file, key_file
    if validity_years < 1:
        raise StartupError("--self-signed-cert-validity must be at least 1 year")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key, hosts, validity_years)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        _write_private(key_file, key_pem)
        _write_private(cert_file, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise StartupError(
            f"cannot keep the self-signed certificate in {directory}: {error.strerror}"
        ) from error
    return cert_file, key_file


def _certificate(
    key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], validity_years: int
) -> x509.Certificate:
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(oid.NameOID.ORGANIZATION_NAME, "kvshim")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=365 * validity_years))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host or "localhost"))
    return names or [x509.DNSName("localhost")]


def _write_private(path: Path, data: bytes) -> None:
    """Write by renaming, so that a crash leaves no half file that would be taken for a pair."""
    draft = path.with_suffix(".tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
