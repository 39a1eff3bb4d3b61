"""Keys for signed tokens that cannot be used stop the start with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from kvshim.auth.signed_tokens import SignedTokens
from kvshim.config import SignedTokenConfig
from kvshim.errors import StartupError
from tests.transport.certs import Authority

PEM, PLAIN = Encoding.PEM, NoEncryption()


def private(path: Path, key: object, encryption: object = PLAIN) -> Path:
    path.write_bytes(key.private_bytes(PEM, PrivateFormat.PKCS8, encryption))
    return path


def public(path: Path, key: object) -> Path:
    path.write_bytes(key.public_key().public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def refusal(method: str, private_key: Path | None, public_key: Path | None) -> str:
    with pytest.raises(StartupError) as caught:
        SignedTokens(SignedTokenConfig(method, public_key, private_key, 300))
    return str(caught.value)


def test_what_stops_the_start(tmp_path: Path):
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    first = private(tmp_path / "rsa", rsa_key)
    second = public(tmp_path / "ec.pub", ec.generate_private_key(ec.SECP256R1()))
    locked = private(tmp_path / "locked", rsa_key, BestAvailableEncryption(b"x"))
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    ed = private(tmp_path / "ed", ed25519.Ed25519PrivateKey.generate())
    curve = private(tmp_path / "curve", ec.generate_private_key(ec.SECP384R1()))
    assert "do not belong together" in refusal("RS256", first, second)
    assert "give pub-key=FILE" in refusal("RS256", None, None)
    assert "needs priv-key=FILE" in refusal("HS256", None, second)
    assert "needs priv-key=FILE" in refusal("HS256", empty, None)
    assert "cannot read" in refusal("RS256", tmp_path / "none", None)
    assert "without a password" in refusal("RS256", locked, None)
    assert "no private key" in refusal("RS256", second, None)
    assert "no public key" in refusal("RS256", None, first)
    assert "not for sign-method=RS256" in refusal("RS256", ed, None)
    assert "not for sign-method=EdDSA" in refusal("EdDSA", first, None)
    assert "not for sign-method=ES256" in refusal("ES256", curve, None)


def test_a_certificate_does_for_a_public_key(tmp_path: Path):
    issued = Authority(tmp_path).issue("signer")
    config = SignedTokenConfig("ES256", issued.cert_file, issued.key_file, 300)
    tokens = SignedTokens(config)
    assert tokens.read(tokens.sign("ann", 7)).user == "ann"
