"""TLS of a listener: what the flags say, checked at start, and the key pair that is current.

Renewed files are taken over at the next handshake, as etcd does; files that do not fit together
(a renewal half done) leave the pair before them in use. Knows `ssl` and `cryptography`, no
transport. `CurrentKeyPair` may be called on any thread.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kvshim.config import TlsVersion
from kvshim.config.ciphers import OPENSSL_NAMES
from kvshim.errors import StartupError
from kvshim.lazy import Lazily

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
else:
    x509 = Lazily("cryptography.x509")
    serialization = Lazily("cryptography.hazmat.primitives.serialization")

Warn = Callable[[str], None]
"""Told one sentence about files that were renewed but cannot be used."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """etcd's flags for one side; `--auto-tls` has become a pair of files before this is made."""

    cert_file: Path
    key_file: Path
    trusted_ca_file: Path | None = None
    client_cert_auth: bool = False
    allowed_hostnames: tuple[str, ...] = ()
    allowed_common_names: tuple[str, ...] = ()
    crl_file: Path | None = None
    min_version: TlsVersion = TlsVersion.TLS12
    max_version: TlsVersion | None = None
    cipher_suites: tuple[str, ...] = ()

    @property
    def requires_client_certificate(self) -> bool:
        """In etcd naming a CA is enough to demand certificates from clients."""
        return self.client_cert_auth or self.trusted_ca_file is not None


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM bytes as transports want them; `client_ca` is None when clients need no certificate."""

    certificate: bytes
    private_key: bytes
    client_ca: bytes | None


def load_key_pair(options: TlsOptions) -> KeyPair:
    """Read and check all files. Every StartupError is one sentence that names the file."""
    certificate = _read(options.cert_file, "TLS certificate")
    private_key = _read(options.key_file, "TLS key")
    chain = _parse_certificates(certificate, options.cert_file, "TLS certificate")
    key = _parse_key(private_key, options.key_file)
    if _public_bytes(chain[0].public_key()) != _public_bytes(key):
        raise StartupError(
            f"the TLS key {options.key_file} does not belong to the certificate {options.cert_file}"
        )
    return KeyPair(certificate, private_key, _client_ca(options))


def expiry_warning(options: TlsOptions, now: datetime | None = None) -> str | None:
    """A sentence if the certificate is not valid now: like etcd we serve it, clients refuse it."""
    now = now or datetime.now(UTC)
    data = _read(options.cert_file, "TLS certificate")
    leaf = _parse_certificates(data, options.cert_file, "TLS certificate")[0]
    if leaf.not_valid_after_utc < now:
        return f"the certificate {options.cert_file} expired at {leaf.not_valid_after_utc}"
    if leaf.not_valid_before_utc > now:
        return f"the certificate {options.cert_file} is valid only from {leaf.not_valid_before_utc}"
    return None


def openssl_ciphers(suites: Sequence[str]) -> str:
    """OpenSSL's list of the TLS 1.2 suites asked for, in their order; empty leaves the default.

    TLS 1.3 suites are not chosen by flags in Go, nor here: they are always on.
    """
    names = (OPENSSL_NAMES.get(suite) for suite in suites)
    return ":".join(name for name in names if name and not name.startswith("TLS_"))


def _client_ca(options: TlsOptions) -> bytes | None:
    if not options.requires_client_certificate:
        return None
    if options.trusted_ca_file is not None:
        data = _read(options.trusted_ca_file, "trusted CA file")
        _parse_certificates(data, options.trusted_ca_file, "trusted CA file")
        return data
    system = ssl.get_default_verify_paths().cafile
    if system is None:
        raise StartupError(
            "--client-cert-auth needs --trusted-ca-file: this system has no CA bundle of its own"
        )
    return _read(Path(system), "system's CA bundle")


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StartupError(f"the {what} {path} does not exist") from None
    except PermissionError:
        raise StartupError(f"no permission to read the {what} {path}") from None
    except OSError as error:
        raise StartupError(f"cannot read the {what} {path}: {error.strerror}") from error


def _parse_certificates(data: bytes, path: Path, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise StartupError(f"the {what} {path} holds no readable PEM certificate") from None


def _parse_key(data: bytes, path: Path) -> PublicKeyTypes:
    try:
        return serialization.load_pem_private_key(data, password=None).public_key()
    except TypeError:
        raise StartupError(f"the TLS key {path} is encrypted; give one without password") from None
    except Exception:  # cryptography raises several unrelated types for keys it cannot read
        raise StartupError(f"the TLS key {path} holds no readable PEM private key") from None


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


_Stamp = tuple[tuple[int, int, int], ...]


class CurrentKeyPair:
    """The pair on disk, read again when one of its files has changed."""

    def __init__(self, options: TlsOptions, warn: Warn) -> None:
        self._options = options
        self._warn = warn
        self._lock = threading.Lock()
        self._stamp = self._stat()
        self._pair = load_key_pair(options)

    def get(self) -> KeyPair:
        """The pair to use for the next handshake. Costs a few stat calls."""
        with self._lock:
            stamp = self._stat()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._pair = load_key_pair(self._options)
                except StartupError as error:
                    self._warn(f"{error}; the certificate read before stays in use")
            return self._pair

    def _stat(self) -> _Stamp:
        options = self._options
        files = [options.cert_file, options.key_file, options.trusted_ca_file]
        return tuple(_file_stamp(file) for file in files if file is not None)


def _file_stamp(path: Path) -> tuple[int, int, int]:
    try:
        info = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (info.st_mtime_ns, info.st_size, info.st_ino)
