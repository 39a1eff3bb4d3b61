"""TLS between members by the `--peer-*` flags: who gets through a real handshake."""

import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kvshim.config import PeerTls, TlsVersion
from kvshim.transport.peer_tls import PeerCredentials, peer_credentials
from raft.interface import MemberId
from raft.transport import Hello, PeerCertificate, Purpose
from tests.transport.certs import Authority

HELLO = Hello(1, MemberId(2), Purpose.URGENT)
NOTHING = PeerTls(
    cert_file=None,
    key_file=None,
    client_cert_file=None,
    client_key_file=None,
    trusted_ca_file=None,
    client_cert_auth=False,
    crl_file=None,
    allowed_hostnames=(),
    allowed_cns=(),
    auto_tls=False,
    self_signed_validity_years=1,
    cipher_suites=(),
    min_version=TlsVersion.TLS12,
    max_version=None,
)


def _mutual(authority: Authority, name: str) -> PeerTls:
    issued = authority.issue(name)
    return replace(
        NOTHING,
        cert_file=issued.cert_file,
        key_file=issued.key_file,
        trusted_ca_file=authority.ca_file,
        client_cert_auth=True,
    )


def _of(tls: PeerTls, directory: Path) -> PeerCredentials:
    made = peer_credentials(tls, directory, ("127.0.0.1",), lambda _: None)
    assert made is not None
    return made


def _shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, host: str = "127.0.0.1"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialled = client.wrap_bio(down, up, server_side=False, server_hostname=host)
    answered = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (dialled, answered):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return answered, dialled


def test_members_of_one_authority_see_each_others_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = _of(_mutual(authority, "one"), tmp_path), _of(_mutual(authority, "two"), tmp_path)
    answered, dialled = _shake_hands(one.server, other.client)
    assert answered.getpeercert(binary_form=True)
    assert dialled.getpeercert(binary_form=True)


def test_a_member_of_another_authority_is_refused(tmp_path: Path) -> None:
    member = _of(_mutual(Authority(tmp_path), "one"), tmp_path)
    stranger = _of(_mutual(Authority(tmp_path, "other"), "two"), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(member.server, stranger.client)
    stranger.client._latest.check_hostname = False  # type: ignore[attr-defined]
    stranger.client._latest.verify_mode = ssl.CERT_NONE  # type: ignore[attr-defined]
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(member.server, stranger.client)


def test_a_member_at_another_address_than_its_certificate_says_is_refused(tmp_path: Path) -> None:
    member = _of(_mutual(Authority(tmp_path), "one"), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(member.server, member.client, "10.0.0.1")


def test_a_renewed_certificate_is_shown_by_the_next_dial(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one = _of(_mutual(authority, "one"), tmp_path)
    _shake_hands(one.server, one.client)
    renewed = authority.issue("one").certificate.public_bytes
    answered, dialled = _shake_hands(one.server, one.client)
    assert answered.getpeercert(binary_form=True) == renewed(Encoding.DER)
    assert dialled.getpeercert(binary_form=True) == renewed(Encoding.DER)


def test_auto_tls_encrypts_and_keeps_a_private_key(tmp_path: Path) -> None:
    made = _of(replace(NOTHING, auto_tls=True), tmp_path)
    answered, _ = _shake_hands(made.server, made.client)
    assert answered.version() in ("TLSv1.2", "TLSv1.3")
    key = tmp_path / "fixtures" / "peer" / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_only_allowed_names_are_welcome(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authorize = _of(replace(_mutual(authority, "one"), allowed_cns=("two",)), tmp_path).authorize
    two, three = (authority.issue(name).cert_pem.decode() for name in ("two", "three"))
    assert authorize(PeerCertificate(ssl.PEM_cert_to_DER_cert(two)), HELLO) is None
    assert authorize(PeerCertificate(ssl.PEM_cert_to_DER_cert(three)), HELLO)
    assert authorize(None, HELLO)


def test_a_revoked_member_is_not_welcome(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good, bad = authority.issue("two"), authority.issue("three")
    flags = replace(_mutual(authority, "one"), crl_file=authority.revoke(bad))
    authorize = _of(flags, tmp_path).authorize
    shown = [ssl.PEM_cert_to_DER_cert(issued.cert_pem.decode()) for issued in (good, bad)]
    assert authorize(PeerCertificate(shown[0]), HELLO) is None
    assert authorize(PeerCertificate(shown[1]), HELLO)


def test_a_member_may_dial_with_another_certificate_than_it_serves_with(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    dialling = authority.issue("one-dialling")
    flags = replace(
        _mutual(authority, "one"),
        client_cert_file=dialling.cert_file,
        client_key_file=dialling.key_file,
    )
    one, two = _of(flags, tmp_path), _of(_mutual(authority, "two"), tmp_path)
    shown = dialling.certificate.public_bytes(Encoding.DER)
    answered, _ = _shake_hands(two.server, one.client)
    assert answered.getpeercert(binary_form=True) == shown
    _, dialled = _shake_hands(one.server, two.client)
    assert dialled.getpeercert(binary_form=True) != shown


def test_without_certificate_flags_there_is_no_tls(tmp_path: Path) -> None:
    assert peer_credentials(NOTHING, tmp_path, (), lambda _: None) is None
