"""Join tokens: 128 random bits that let their holder in once. Pure.

From a token follows a signing key, from that a verifier (its public half), from that an id. Only
the verifier is stored, so what the cluster keeps lets nobody join; and only a signature is sent,
over all that the two sides said, so that not even the server that checks it learns the token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from kvshim.lazy import Lazily
from kvshim.pki.certificates import PkiError

if TYPE_CHECKING:
    from cryptography import exceptions
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519
else:
    exceptions = Lazily("cryptography.exceptions")
    serialization = Lazily("cryptography.hazmat.primitives.serialization")
    ed25519 = Lazily("cryptography.hazmat.primitives.asymmetric.ed25519")

TOKEN_BYTES: Final = 16
ID_BYTES: Final = 8

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SEED_LABEL: Final = b"kvshim join token, version 1\0"
_PROOF_LABEL: Final = b"kvshim join proof, version 1\0"


@dataclass(frozen=True, slots=True, repr=False)
class JoinToken:
    """A secret and the fingerprint of the CA that it is meant for; never printed by accident."""

    secret: bytes
    ca_fingerprint: str

    @classmethod
    def create(cls, ca_fingerprint: str) -> Self:
        """A new one."""
        return cls(secrets.token_bytes(TOKEN_BYTES), ca_fingerprint)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<token>.<fingerprint>`, as `add-node` prints it. Raises `PkiError`."""
        encoded, _, ca_fingerprint = text.strip().partition(".")
        try:
            secret = base64.urlsafe_b64decode(encoded.encode() + b"==")
        except (ValueError, binascii.Error):
            secret = b""
        if len(secret) != TOKEN_BYTES or not _FINGERPRINT.fullmatch(ca_fingerprint):
            raise PkiError(
                "that is no join token: copy all of what `kvshim add-node` prints after the #"
            )
        return cls(secret, ca_fingerprint)

    @property
    def text(self) -> str:
        """`<token>.<fingerprint>`."""
        encoded = base64.urlsafe_b64encode(self.secret).decode().rstrip("=")
        return f"{encoded}.{self.ca_fingerprint}"

    @property
    def verifier(self) -> bytes:
        """What the cluster keeps of it."""
        return (
            self._key()
            .public_key()
            .public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        )

    @property
    def id(self) -> bytes:
        """What names it."""
        return token_id(self.verifier)

    def prove(self, *said: bytes) -> bytes:
        """A signature over everything that was said."""
        return self._key().sign(_transcript(said))

    def _key(self) -> ed25519.Ed25519PrivateKey:
        seed = hashlib.sha256(_SEED_LABEL + self.secret).digest()
        return ed25519.Ed25519PrivateKey.from_private_bytes(seed)


def token_id(verifier: bytes) -> bytes:
    """The id of the token with this verifier."""
    return hashlib.sha256(verifier).digest()[:ID_BYTES]


def proof_holds(verifier: bytes, proof: bytes, *said: bytes) -> bool:
    """Was `proof` made by the token's holder, over exactly this?"""
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(verifier).verify(proof, _transcript(said))
    except (exceptions.InvalidSignature, ValueError):
        return False
    return True


def _transcript(said: tuple[bytes, ...]) -> bytes:
    """Each part with its length, so that no byte can move from one part to another."""
    return _PROOF_LABEL + b"".join(len(part).to_bytes(4, "big") + part for part in said)
