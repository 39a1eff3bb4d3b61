"""What the cluster's CA makes, keeps on disk, and refuses."""

import hashlib
import ssl
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from kvshim.pki.certificates import (
    CertificateAuthority,
    PkiError,
    authorize,
    inspect,
    make_csr,
    new_key,
    verify_issued,
)
from kvshim.pki.contexts import PeerTls
from kvshim.pki.files import Pki
from kvshim.pki.tokens import JoinToken, proof_holds

NOW = 1_800_000_000.0
DAY = 86_400.0
CLUSTER, MEMBER = 0xC1, 0xA1


def issue(ca, hosts=("node-1.example", "10.0.0.7")):
    return ca.issue(make_csr(new_key()), CLUSTER, MEMBER, hosts, NOW)


def test_a_members_certificate_names_it_and_serves_both_sides_of_a_connection():
    certificate = issue(CertificateAuthority.create(CLUSTER, NOW))

    info = inspect(certificate)
    assert (info.cluster_id, info.member_id, info.subject) == (CLUSTER, MEMBER, f"{MEMBER:016x}")
    assert {"node-1.example", "10.0.0.7", "localhost", "127.0.0.1"} <= set(info.hosts)
    assert info.not_after == NOW + 365 * DAY
    assert not info.is_ca
    read = x509.load_der_x509_certificate(certificate)
    usages = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {usage._name for usage in usages} == {"serverAuth", "clientAuth"}
    assert read.public_key().curve.name == "secp256r1"


@pytest.mark.parametrize(("days", "due"), [(0, False), (240, False), (245, True), (364, True)])
def test_renewal_is_due_in_the_last_third(days, due):
    info = inspect(issue(CertificateAuthority.create(CLUSTER, NOW)))
    assert info.renewal_due(NOW + days * DAY) is due


def test_a_certificate_authorizes_its_member_of_its_cluster_and_nobody_else():
    ca = CertificateAuthority.create(CLUSTER, NOW)
    certificate = issue(ca)
    assert authorize(certificate, CLUSTER, MEMBER) is None
    assert authorize(certificate, CLUSTER, 0) is None
    assert "for the cluster" in authorize(certificate, CLUSTER + 1, MEMBER)
    assert "for the member" in authorize(certificate, CLUSTER, MEMBER + 1)
    assert "no certificate" in authorize(None, CLUSTER, MEMBER)
    assert "not a member's" in authorize(ca.certificate_der, CLUSTER, MEMBER)
    assert "cannot be read" in authorize(b"rubbish", CLUSTER, MEMBER)


def test_a_request_gets_a_certificate_for_its_key_only_and_only_if_it_is_one():
    ca = CertificateAuthority.create(CLUSTER, NOW)
    csr = make_csr(new_key())
    bent = csr[:-1] + bytes([csr[-1] ^ 1])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    other_kind = request.sign(rsa.generate_private_key(65537, 2048), SHA256())
    for wrong in (bent, b"", b"x" * 9000, other_kind.public_bytes(Encoding.DER)):
        with pytest.raises(PkiError):
            ca.issue(wrong, CLUSTER, MEMBER, (), NOW)

    certificate = ca.issue(csr, CLUSTER, MEMBER, (), NOW)
    verify_issued(certificate, ca.certificate_der, csr)
    with pytest.raises(PkiError, match="another key"):
        verify_issued(certificate, ca.certificate_der, make_csr(new_key()))
    with pytest.raises(PkiError, match="not made by"):
        verify_issued(certificate, CertificateAuthority.create(CLUSTER, NOW).certificate_der, csr)


def test_the_files_are_their_owners_only_and_founding_again_keeps_them(tmp_path):
    pki = Pki.of(tmp_path / "data")
    pki.found(CLUSTER, MEMBER, ["10.0.0.7"], NOW)
    before = {path.name: path.read_bytes() for path in pki.folder.iterdir()}
    pki.found(CLUSTER, MEMBER, ["10.0.0.7"], NOW)

    assert {path.name: path.read_bytes() for path in pki.folder.iterdir()} == before
    assert set(before) == {"ca.crt", "ca.key", "node.pem"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in pki.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(pki.folder.stat().st_mode) == 0o700
    assert pki.ca_fingerprint() == hashlib.sha256(pki.ca_certificate()).hexdigest()


def test_a_ca_key_of_another_cluster_is_not_kept(tmp_path):
    pki = Pki.of(tmp_path)
    pki.found(CLUSTER, MEMBER, [], NOW)
    pki.ca_key_file.unlink()
    with pytest.raises(PkiError, match="does not belong"):
        pki.keep_ca_key(CertificateAuthority.create(CLUSTER, NOW).key_pem)
    assert pki.authority() is None


@pytest.mark.parametrize("name", ["node.pem", "ca.crt", "ca.key"])
def test_a_damaged_file_is_one_sentence(tmp_path, name):
    pki = Pki.of(tmp_path)
    pki.found(CLUSTER, MEMBER, [], NOW)
    (pki.folder / name).write_text("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n")
    with pytest.raises(PkiError):
        _use(pki)


def _use(pki):
    PeerTls(pki)
    pki.authority()


def test_the_contexts_know_no_ca_but_the_clusters_own(tmp_path):
    pki = Pki.of(tmp_path)
    pki.found(CLUSTER, MEMBER, [], NOW)
    tls = PeerTls(pki)
    for context in (tls.server, tls.client):
        assert context.get_ca_certs(binary_form=True) == [pki.ca_certificate()]
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.client.verify_mode is ssl.CERT_REQUIRED


def test_a_token_is_read_as_it_is_printed_and_does_not_show_itself():
    token = JoinToken.create("ab" * 32)
    assert JoinToken.parse(f" {token.text}\n") == token
    assert len(token.secret) == 16
    assert token.text.split(".", maxsplit=1)[0] not in f"{token!r}"
    for wrong in ("", "x", token.text[:-1], token.text[1:], "é." + "ab" * 32):
        with pytest.raises(PkiError, match="no join token"):
            JoinToken.parse(wrong)


def test_a_proof_holds_for_what_was_said_and_no_byte_may_move():
    token = JoinToken.create("ab" * 32)
    proof = token.prove(b"nonce", b"csr")
    assert proof_holds(token.verifier, proof, b"nonce", b"csr")
    assert not proof_holds(token.verifier, proof, b"noncec", b"sr")
    assert not proof_holds(JoinToken.create("ab" * 32).verifier, proof, b"nonce", b"csr")
    assert not proof_holds(b"short", proof, b"nonce", b"csr")
    assert token.secret not in token.verifier
