"""Settings that contradict each other are one clear sentence, where etcd stops too."""

from __future__ import annotations

import pytest

from kvshim.config import NoticeKind, TlsVersion
from tests.config.helpers import config_of, loaded, notices_of, refusal

HTTPS = ["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"]
CERTS = ["--cert-file=/c", "--key-file=/k"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--listen-client-urls=http://example.com:1", "--advertise-client-urls=http://a:1"],
         "--listen-client-urls: expected IP in URL for binding (http://example.com:1)"),
        (["--listen-peer-urls=http://example.com:1"],
         "--listen-peer-urls: expected IP in URL for binding (http://example.com:1)"),
        (["--listen-metrics-urls=http://example.com:1"],
         "--listen-metrics-urls: expected IP in URL for binding (http://example.com:1)"),
        (["--listen-client-http-urls=http://example.com:1"],
         "--listen-client-http-urls: expected IP in URL for binding (http://example.com:1)"),
        (["--advertise-client-urls=http://:1"],
         "--advertise-client-urls: unexpected empty host (http://:1)"),
        (["--initial-advertise-peer-urls=http://:1"],
         "--initial-advertise-peer-urls: unexpected empty host (http://:1)"),
        (["--name="], "--name must not be empty"),
        (["--peer-cert-file=/c"], "--peer-cert-file and --peer-key-file must be given together"),
        (["--peer-client-key-file=/k"],
         "--peer-client-cert-file and --peer-client-key-file must be given together"),
        (["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"],
         "--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other"),
        (["--heartbeat-interval=0"], "--heartbeat-interval must be above 0"),
        (["--election-timeout=0"], "--election-timeout must be above 0"),
        (["--heartbeat-interval=300"],
         "--election-timeout[1000ms] should be at least 5 times --heartbeat-interval[300ms]"),
        (["--election-timeout=50001"], "--election-timeout[50001ms] is too long: at most 50000ms"),
        (["--listen-client-urls=http://127.0.0.1:9"],
         "--advertise-client-urls is required when --listen-client-urls is set explicitly: add"
         " --advertise-client-urls=http://127.0.0.1:9, or what clients reach it by"),
        (["--feature-gates=LeaseCheckpointPersist=true"],
         "enabling feature gate LeaseCheckpointPersist requires enabling feature gate"
         " LeaseCheckpoint"),
        (["--compact-hash-check-time=0s"], "--compact-hash-check-time must be above 0"),
        (["--tls-min-version=TLS1.1"],
         'unexpected TLS version "TLS1.1" for --tls-min-version: expected TLS1.2 or TLS1.3'),
        (["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
         "--tls-min-version is above --tls-max-version"),
        (["--tls-min-version=TLS1.3", "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
         "--cipher-suites cannot be chosen when only TLS1.3 is allowed"),
        (["--cipher-suites=ROT13"], 'unexpected TLS cipher suite "ROT13" in --cipher-suites'),
        (["--cert-file=/c"], "--cert-file is given without --key-file: give both"),
        (["--key-file=/k"], "--key-file is given without --cert-file: give both"),
        (["--client-cert-file=/c"],
         "--client-cert-file and --client-key-file must be given together"),
        (HTTPS,
         "https://127.0.0.1:1 needs a certificate: give --cert-file and --key-file, or --auto-tls"),
        (["--listen-metrics-urls=https://127.0.0.1:1"],
         "https://127.0.0.1:1 needs a certificate: give --cert-file and --key-file, or --auto-tls"),
        ([*HTTPS, *CERTS, "--client-cert-auth"],
         "--client-cert-auth needs --trusted-ca-file, the CA that signs client certificates"),
        ([*HTTPS, "--auto-tls", "--client-cert-auth"],
         "--auto-tls cannot check client certificates: give --cert-file and --key-file, or leave"
         " out --client-cert-auth and --trusted-ca-file"),
        ([*HTTPS, "--auto-tls", "--self-signed-cert-validity=0"],
         "--self-signed-cert-validity must be above 0"),
        ([*HTTPS, *CERTS, "--client-crl-file=/crl"],
         "--client-crl-file and --client-cert-allowed-hostname check client certificates, which"
         " nothing demands: add --client-cert-auth and --trusted-ca-file"),
        (["--listen-client-http-urls=http://127.0.0.1:2379"],
         "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url"
         " http://127.0.0.1:2379"),
        (["--listen-metrics-urls=http://127.0.0.1:2379"],
         "--listen-metrics-urls and --listen-client-urls both name http://127.0.0.1:2379"),
        (["--initial-cluster=a=http://1.1.1.1:1,b=http://1.1.1.1:1", "--name=a",
          "--initial-advertise-peer-urls=http://1.1.1.1:1"],
         "--initial-cluster gives http://1.1.1.1:1 to a and to b: each member needs an address of"
         " its own"),
        (["--initial-cluster=other=http://localhost:2380", "--name=a"],
         'couldn\'t find local name "a" in --initial-cluster, which names other: make --name and'
         " --initial-cluster agree"),
        (["--initial-cluster=default=example.com:1"],
         'invalid value "default=example.com:1" for --initial-cluster: URL scheme must be http,'
         " https, unix, or unixs: example.com:1"),
        (["--initial-cluster=default=http://10.0.0.1:2380"],
         "--initial-cluster has default=http://10.0.0.1:2380, but --initial-advertise-peer-urls is"
         " http://localhost:2380: make them equal"),
        (["--initial-cluster-state=existing", "--data-dir=/no/such/dir"],
         "--initial-cluster-state=existing needs the other members in --initial-cluster, to ask"
         " them: name all of them"),
        (["--wal-bytes-max=1"], "--wal-bytes-max must be at least 1048576 (1 MiB)"),
        (["--max-request-bytes=0"], "--max-request-bytes must be above 0"),
        (["--max-txn-ops=0"], "--max-txn-ops must be above 0"),
    ],
)  # fmt: skip
def test_a_contradiction_is_one_sentence_and_exit_code_1(argv, sentence):
    error = refusal(argv)
    assert str(error) == sentence
    assert error.exit_code == 1


def test_a_trusted_ca_alone_demands_client_certificates_as_in_etcd():
    tls = config_of([*HTTPS, *CERTS, "--trusted-ca-file=/ca"]).client_tls
    assert tls.demands_client_cert
    assert not tls.client_cert_auth


def test_plain_addresses_say_that_certificates_do_not_apply_to_them():
    argv = [
        "--listen-client-urls=http://127.0.0.1:1,https://127.0.0.1:2",
        "--advertise-client-urls=https://127.0.0.1:2",
        *CERTS,
    ]
    [notice] = notices_of(argv)
    assert notice.kind is NoticeKind.ADVICE
    assert "http://127.0.0.1:1 is served without TLS" in notice.reason


def test_given_certificates_win_over_made_ones():
    outcome = loaded([*HTTPS, *CERTS, "--auto-tls"])
    assert not outcome.config.client_tls.auto_tls
    [notice] = outcome.notices
    assert notice.name == "--auto-tls"


def test_made_certificates_serve_https():
    tls = config_of([*HTTPS, "--auto-tls", "--tls-max-version=TLS1.3"]).client_tls
    assert tls.available
    assert tls.max_version is TlsVersion.TLS13


def test_names_of_hosts_may_mean_the_same_and_localhost_does():
    argv = ["--initial-cluster=default=http://127.0.0.1:2380"]
    assert config_of(argv).initial_cluster[0][0] == "default"
    argv = ["--initial-cluster=a=http://a.example:2380", "--name=a",
            "--initial-advertise-peer-urls=http://10.0.0.1:2380"]  # fmt: skip
    assert config_of(argv).name == "a"


def test_once_there_is_data_the_initial_cluster_no_longer_counts(tmp_path):
    (tmp_path / "kv-1.db").touch()
    argv = [f"--data-dir={tmp_path}", "--initial-cluster=other=http://10.0.0.1:2380",
            "--initial-cluster-state=existing"]  # fmt: skip
    assert config_of(argv).data_dir == tmp_path


def test_a_cluster_is_named_with_all_its_members():
    argv = [
        "--initial-cluster=a=http://1.1.1.1:1,b=http://2.2.2.2:2",
        "--name=a",
        "--initial-advertise-peer-urls=http://1.1.1.1:1",
    ]
    assert [name for name, _ in config_of(argv).initial_cluster] == ["a", "b"]


def test_a_socket_is_served_without_an_ip():
    argv = [
        "--listen-client-urls=unix:///run/kv.sock",
        "--advertise-client-urls=unix:///run/kv.sock",
    ]
    [url] = config_of(argv).listen_client_urls
    assert url.is_unix
    assert url.address == "/run/kv.sock"
