"""What is wrong with TLS files is said in one sentence, at start; what is right is loaded."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from kvshim.config import ClientTls, Scheme, TlsVersion, Url
from kvshim.errors import StartupError
from kvshim.transport.client_certs import ClientCertificatePolicy, matches_hostname
from kvshim.transport.client_tls import resolve_client_tls
from kvshim.transport.self_signed import ensure_self_signed
from kvshim.transport.tls import (
    CurrentKeyPair,
    TlsOptions,
    expiry_warning,
    load_key_pair,
    openssl_ciphers,
)
from kvshim.transport.tls_context import server_context
from tests.transport.certs import Authority
from tests.transport.serving import LogBook


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def sentence(options: TlsOptions) -> str:
    with pytest.raises(StartupError) as caught:
        load_key_pair(options)
    return str(caught.value)


def test_missing_files_are_named(authority: Authority, tmp_path: Path):
    server, absent = authority.issue("server"), tmp_path / "absent.pem"
    assert sentence(TlsOptions(absent, server.key_file)) == (
        f"the TLS certificate {absent} does not exist"
    )
    assert sentence(TlsOptions(server.cert_file, absent)) == f"the TLS key {absent} does not exist"
    assert sentence(TlsOptions(server.cert_file, server.key_file, trusted_ca_file=absent)) == (
        f"the trusted CA file {absent} does not exist"
    )


def test_files_that_hold_something_else_are_named(authority: Authority, tmp_path: Path):
    server, junk = authority.issue("server"), tmp_path / "junk.pem"
    junk.write_text("no certificate\n")
    assert f"{junk} holds no readable PEM certificate" in sentence(
        TlsOptions(junk, server.key_file)
    )
    assert f"{junk} holds no readable PEM private key" in sentence(
        TlsOptions(server.cert_file, junk)
    )


def test_a_directory_is_not_a_certificate(authority: Authority, tmp_path: Path):
    server = authority.issue("server")
    assert "cannot read the TLS certificate" in sentence(TlsOptions(tmp_path, server.key_file))


def test_a_key_of_another_certificate_is_refused(authority: Authority):
    server, other = authority.issue("server"), authority.issue("other")
    assert "does not belong to the certificate" in sentence(
        TlsOptions(server.cert_file, other.key_file)
    )


def test_an_encrypted_key_is_refused(authority: Authority):
    server = authority.issue("server", password=b"secret")
    assert "is encrypted" in sentence(TlsOptions(server.cert_file, server.key_file))


def test_an_unreadable_key_is_named(authority: Authority, monkeypatch: pytest.MonkeyPatch):
    server = authority.issue("server")
    read_bytes = Path.read_bytes

    def read_with_permission(path: Path) -> bytes:
        if path == server.key_file:
            raise PermissionError  # raised here because root may read everything
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_with_permission)
    assert sentence(TlsOptions(server.cert_file, server.key_file)) == (
        f"no permission to read the TLS key {server.key_file}"
    )


def test_an_expired_certificate_is_a_warning(authority: Authority):
    now = datetime.now(UTC)
    expired = authority.issue("server", not_after=now - timedelta(hours=1))
    options = TlsOptions(expired.cert_file, expired.key_file)
    load_key_pair(options)
    assert "expired at" in (expiry_warning(options) or "")
    assert "valid only from" in (expiry_warning(options, now - timedelta(days=30)) or "")
    assert expiry_warning(options, now - timedelta(hours=2)) is None


def test_cipher_suites_in_openssls_words():
    suites = (
        "TLS_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        "TLS_RSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    )
    assert openssl_ciphers(suites) == "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256"


def test_a_renewed_pair_is_taken_over_and_a_broken_one_is_not(authority: Authority):
    server = authority.issue("server")
    warnings: list[str] = []
    current = CurrentKeyPair(TlsOptions(server.cert_file, server.key_file), warnings.append)
    first = current.get()
    assert current.get() is first

    renewed = authority.issue("server")
    assert current.get().certificate == renewed.cert_file.read_bytes() != first.certificate
    second = current.get()
    server.cert_file.unlink()
    assert current.get() is second
    assert len(warnings) == 1
    current.get()
    assert len(warnings) == 1, "one warning for one change"


def test_versions_of_the_context(authority: Authority):
    server = authority.issue("server")
    options = TlsOptions(
        server.cert_file,
        server.key_file,
        trusted_ca_file=authority.ca_file,
        min_version=TlsVersion.TLS12,
        max_version=TlsVersion.TLS12,
    )
    context = server_context(options, ("h2",), lambda _: None)
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_auto_tls_makes_a_private_pair_once(tmp_path: Path):
    directory = tmp_path / "fixtures" / "client"
    cert_file, key_file = ensure_self_signed(directory, ["127.0.0.1", "node.local"], 2)
    made = cert_file.read_bytes()
    certificate = x509.load_pem_x509_certificate(made)
    assert matches_hostname(certificate, "127.0.0.1")
    assert matches_hostname(certificate, "node.local")
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=700)
    for path, mode in ((directory, 0o700), (cert_file, 0o600), (key_file, 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert ensure_self_signed(directory, ["127.0.0.1"], 2) == (cert_file, key_file)
    assert cert_file.read_bytes() == made


def test_auto_tls_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "fixtures").write_text("a file")
    with pytest.raises(StartupError, match="cannot keep the self-signed certificate"):
        ensure_self_signed(tmp_path / "fixtures" / "client", [], 1)


def flags(**changes: object) -> ClientTls:
    values: dict[str, object] = {
        "cert_file": None,
        "key_file": None,
        "trusted_ca_file": None,
        "client_cert_auth": False,
        "crl_file": None,
        "allowed_hostnames": (),
        "allowed_cns": (),
        "auto_tls": False,
        "self_signed_validity_years": 1,
        "cipher_suites": (),
        "min_version": TlsVersion.TLS12,
        "max_version": None,
    }
    return ClientTls(**{**values, **changes})  # type: ignore[arg-type]


def test_flags_become_options(authority: Authority, tmp_path: Path):
    log = LogBook()
    urls = [Url(Scheme.HTTPS, "127.0.0.1", 2379)]
    assert resolve_client_tls(flags(), tmp_path, urls, log) is None

    made = resolve_client_tls(flags(auto_tls=True), tmp_path, urls, log)
    assert made is not None
    assert made.cert_file == tmp_path / "fixtures" / "client" / "cert.pem"
    assert made.cert_file.exists()
    assert not made.requires_client_certificate

    expired = authority.issue("server", not_after=datetime.now(UTC) - timedelta(hours=1))
    given = flags(cert_file=expired.cert_file, key_file=expired.key_file, client_cert_auth=True)
    options = resolve_client_tls(given, tmp_path, urls, log)
    assert options is not None
    assert options.requires_client_certificate
    assert log.lines[-1][0] == "warn"
    assert "expired" in log.lines[-1][2]["advice"]


def test_names_in_certificates(authority: Authority):
    certificate = authority.issue("c", ["*.example.org", "Exact.example.com", "::1"]).certificate
    for host in ("a.example.org", "A.EXAMPLE.org", "exact.example.com", "::1", "0:0::1"):
        assert matches_hostname(certificate, host), host
    for host in ("example.org", "a.b.example.org", "127.0.0.1", "other.example.com", ""):
        assert not matches_hostname(certificate, host), host


def test_a_revocation_list_that_disappears_admits_nobody(authority: Authority):
    client = authority.issue("client")
    crl_file = authority.revoke()
    policy = ClientCertificatePolicy((), (), crl_file)
    policy.admit(client.cert_pem)
    crl_file.unlink()
    with pytest.raises(Exception, match="client certificate authentication failed"):
        policy.admit(client.cert_pem)


def test_a_revocation_list_that_is_none(tmp_path: Path):
    junk = tmp_path / "junk.crl"
    junk.write_text("nothing")
    with pytest.raises(StartupError, match="is not a readable"):
        ClientCertificatePolicy((), (), junk)
    with pytest.raises(StartupError, match="cannot read the revocation list"):
        ClientCertificatePolicy((), (), tmp_path / "absent.crl")


def test_allowed_common_names(authority: Authority):
    policy = ClientCertificatePolicy((), ("root",), None)
    policy.admit(authority.issue("root").cert_pem)
    with pytest.raises(Exception, match="client certificate authentication failed"):
        policy.admit(authority.issue("other").cert_pem)
