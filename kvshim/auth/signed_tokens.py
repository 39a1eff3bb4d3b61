"""Signed tokens (JWT): any member that has the key knows whose they are, and nobody remembers them.

As etcd's (`server/auth/jwt.go`): claims `username`, `revision` (of users and permissions at the
login) and `exp`. Imported only for `--auth-token=jwt`, since PyJWT takes memory.
"""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)
from jwt.types import Options

from kvshim.auth.state import Identity
from kvshim.config import SignedTokenConfig
from kvshim.errors import InvalidAuthToken, StartupError, VerifyOnly

_Private: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_Public: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}

# etcd asks for none of these.
_UNCHECKED: Final[Options] = {
    "verify_aud": False,
    "verify_iss": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}


class SignedTokens:
    """Makes and reads tokens by one method. Any thread. Raises `StartupError` for wrong keys."""

    def __init__(self, config: SignedTokenConfig) -> None:
        self._method = config.sign_method
        self._ttl_seconds = config.ttl_seconds
        self._signing, self._verifying = _keys(config)
        # A short HMAC key is its owner's choice, as in etcd.
        warnings.filterwarnings("ignore", module="jwt")

    def sign(self, user: str, revision: int) -> str:
        """A new token. Raises `VerifyOnly` when only the public key is here."""
        if self._signing is None:
            raise VerifyOnly
        expires = int(time.time() + self._ttl_seconds)
        claims = {"username": user, "revision": revision, "exp": expires}
        return jwt.encode(claims, self._signing, self._method)

    def read(self, token: str) -> Identity:
        """Whose token it is. Raises `InvalidAuthToken` for one that is not good, or no longer."""
        try:
            claims = jwt.decode(token, self._verifying, [self._method], _UNCHECKED)
        except jwt.PyJWTError:
            raise InvalidAuthToken from None
        user, revision = claims.get("username"), claims.get("revision")
        if not isinstance(user, str) or isinstance(revision, bool):
            raise InvalidAuthToken
        if not isinstance(revision, int | float) or not 0 <= revision < 1 << 64:
            raise InvalidAuthToken
        return Identity(user, int(revision))


def _keys(config: SignedTokenConfig) -> tuple[_Private | bytes | None, _Public | bytes]:
    """(key to sign by, or None; key to verify by)."""
    private = _read(config.private_key_file)
    if config.sign_method.startswith("HS"):
        if not private:
            raise StartupError(f"--auth-token: {config.sign_method} needs priv-key=FILE, not empty")
        return private, private
    public = _read(config.public_key_file)
    signing = _private_key(private, config) if private else None
    if public:
        verifying = _public_key(public, config)
        if signing is not None and signing.public_key() != verifying:
            raise StartupError("--auth-token: pub-key and priv-key do not belong together")
    elif signing is not None:
        verifying = signing.public_key()
    else:
        raise StartupError("--auth-token: give pub-key=FILE, or priv-key=FILE to sign tokens too")
    _check_kind(verifying, config.sign_method)
    return signing, verifying


def _read(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupError(f"--auth-token: cannot read {path}: {error.strerror}") from error


def _private_key(pem: bytes, config: SignedTokenConfig) -> _Private:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, _Private):
        raise StartupError(
            f"--auth-token: {config.private_key_file} is no private key in PEM without a password"
        )
    return key


def _public_key(pem: bytes, config: SignedTokenConfig) -> _Public:
    key: object = None
    with suppress(ValueError):
        if b"BEGIN CERTIFICATE" in pem:
            key = x509.load_pem_x509_certificate(pem).public_key()
        else:
            key = load_pem_public_key(pem)
    if not isinstance(key, _Public):
        raise StartupError(
            f"--auth-token: {config.public_key_file} is no public key or certificate in PEM"
        )
    return key


def _check_kind(key: _Public, method: str) -> None:
    match method[:2]:
        case "RS" | "PS":
            fits = isinstance(key, rsa.RSAPublicKey)
        case "ES":
            fits = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _CURVES[method]
        case _:
            fits = isinstance(key, ed25519.Ed25519PublicKey)
    if not fits:
        raise StartupError(f"--auth-token: that key is not for sign-method={method}")
