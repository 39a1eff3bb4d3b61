"""Keys and certificates on disk, readable by their owner only.

    <data-dir>/pki/ca.crt       the cluster's CA certificate
    <data-dir>/pki/ca.key       its key; on voters only
    <data-dir>/pki/node.pem     this member's key, its certificate and the CA's, in one file
    <data-dir>/pki/joining.key  the key of a join under way

`node.pem` is one file so that key and certificate change together. Every file is written by
renaming, so that a crash leaves the old one or the new one. Used by whichever thread calls; only
one process has the data directory.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvshim.pki.certificates import (
    CertificateAuthority,
    CertificateInfo,
    PkiError,
    PrivateKey,
    Validity,
    fingerprint,
    inspect,
    key_pem,
    load_key,
    make_csr,
    new_key,
    verify_issued,
)
from kvshim.pki.validity import validity_of

FOLDER: Final = "pki"
_END: Final = "-----END CERTIFICATE-----\n"


@dataclass(frozen=True, slots=True)
class Pki:
    """The files of one data directory. Methods raise `PkiError` for what cannot be used."""

    folder: Path

    @classmethod
    def of(cls, data_dir: Path) -> Pki:
        """Where a data directory keeps them."""
        return cls(data_dir / FOLDER)

    @property
    def node_file(self) -> Path:
        """Key and chain, as `ssl` loads them."""
        return self.folder / "node.pem"

    @property
    def ca_file(self) -> Path:
        """The one CA that peers are checked against, PEM."""
        return self.folder / "ca.crt"

    @property
    def ca_key_file(self) -> Path:
        """The CA's key, PEM."""
        return self.folder / "ca.key"

    @property
    def joining_key_file(self) -> Path:
        """The key for which a certificate was asked and did not come yet."""
        return self.folder / "joining.key"

    def exists(self) -> bool:
        """Does this node have a certificate of its cluster?"""
        return self.node_file.exists()

    def found(
        self,
        cluster_id: int,
        member_id: int,
        hosts: Iterable[str],
        now: float,
    ) -> None:
        """Begin a cluster: a CA and the first member's certificate. Keeps what is there."""
        if self.exists():
            return
        if not self.ca_key_file.exists():
            made = CertificateAuthority.create(cluster_id, now)
            self._write(self.ca_file, ssl.DER_cert_to_PEM_cert(made.certificate_der).encode())
            self._write(self.ca_key_file, made.key_pem)
        ca = self.authority()
        assert ca is not None
        key = new_key()
        certificate = ca.issue(make_csr(key), cluster_id, member_id, hosts, now)
        self.keep_certificate(key, certificate, ca.certificate_der)

    def authority(self) -> CertificateAuthority | None:
        """The CA, if this member holds its key."""
        try:
            pem = self.ca_key_file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.ca_key_file, error) from None
        return CertificateAuthority(pem, self.ca_certificate())

    def ca_certificate(self) -> bytes:
        """The CA's certificate, DER."""
        return _certificates(self.ca_file)[0]

    def ca_fingerprint(self) -> str:
        """SHA-256 of the CA's certificate, in hex."""
        return fingerprint(self.ca_certificate())

    def certificate(self) -> bytes:
        """This member's certificate, DER."""
        return _certificates(self.node_file)[0]

    def validity(self) -> Validity:
        """From when to when this member's certificate holds."""
        try:
            return validity_of(self.node_file)
        except OSError as error:
            raise _unreadable(self.node_file, error) from None
        except PkiError as error:
            raise PkiError(f"{self.node_file} is damaged: {error}") from None

    def node(self) -> CertificateInfo:
        """What this member's certificate says."""
        return inspect(self.certificate())

    def node_key(self) -> PrivateKey:
        """This member's key."""
        return load_key(_read(self.node_file))

    def joining_key(self) -> PrivateKey:
        """The key to join with: the same one until the join is done, also after a crash."""
        if not self.joining_key_file.exists():
            self._write(self.joining_key_file, key_pem(new_key()))
        return load_key(_read(self.joining_key_file))

    def keep_certificate(self, key: PrivateKey, certificate: bytes, ca_certificate: bytes) -> None:
        """Begin to use a certificate (DER) of the key; it is what makes this node a member."""
        verify_issued(certificate, ca_certificate, make_csr(key))
        ca_pem = ssl.DER_cert_to_PEM_cert(ca_certificate)
        if not self.ca_file.exists():
            self._write(self.ca_file, ca_pem.encode())
        elif self.ca_certificate() != ca_certificate:
            raise PkiError("the certificate is of another cluster than this data directory")
        chain = ssl.DER_cert_to_PEM_cert(certificate) + ca_pem
        self._write(self.node_file, key_pem(key) + chain.encode())
        with suppress(FileNotFoundError):
            self.joining_key_file.unlink()

    def keep_ca_key(self, pem: bytes) -> None:
        """Hold the CA's key from now on: this member has become a voter."""
        CertificateAuthority(pem, self.ca_certificate())
        self._write(self.ca_key_file, pem)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, data)
        except OSError as error:
            raise PkiError(f"cannot write {path}: {error.strerror or error}") from None


def write_private(path: Path, data: bytes) -> None:
    """Replace a file, durably and in one step; nobody but its owner can read it."""
    draft = path.with_name(path.name + ".tmp")
    with suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _certificates(path: Path) -> list[bytes]:
    """The certificates of a PEM file, DER, in order; at least one."""
    text = _read(path).decode("ascii", "replace")
    found = []
    for block in text.split("-----BEGIN CERTIFICATE-----")[1:]:
        pem = f"-----BEGIN CERTIFICATE-----{block.partition(_END)[0]}{_END}"
        try:
            found.append(ssl.PEM_cert_to_DER_cert(pem))
        except ValueError:
            raise PkiError(f"{path} is damaged: it holds no readable certificate") from None
    if not found:
        raise PkiError(f"{path} is damaged: it holds no certificate")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> PkiError:
    return PkiError(f"cannot read {path}: {error.strerror or error}")
