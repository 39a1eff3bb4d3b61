"""`--config-file` replaces flags and environment, in etcd's YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.config import ClusterState, LogFormat, NoticeKind
from tests.config.helpers import loaded, refusal


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> list[str]:
        path = tmp_path / "etcd.conf.yml"
        path.write_text(text, encoding="utf-8")
        return [f"--config-file={path}"]

    return write


def test_an_etcd_config_file_is_obeyed(file):
    outcome = loaded(
        file(
            """
            name: infra0
            data-dir: /var/lib/etcd
            quota-backend-bytes: 8589934592
            heartbeat-interval: 200
            election-timeout: 2000
            listen-client-urls: https://10.0.0.1:2379,https://127.0.0.1:2379
            advertise-client-urls: https://10.0.0.1:2379
            listen-metrics-urls: http://127.0.0.1:2381
            initial-cluster: infra0=http://localhost:2380
            initial-cluster-state: new
            watch-progress-notify-interval: 5000000000
            auto-compaction-mode: periodic
            auto-compaction-retention: 1
            strict-reconfig-check:
            client-transport-security:
              cert-file: /p/server.crt
              key-file: /p/server.key
              client-cert-auth: true
              trusted-ca-file: /p/ca.crt
              allowed-cn: [root, kube-apiserver]
            socket-options:
              reuse-port: true
            cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
            log-format: console
            log-outputs: [stdout, /var/log/etcd.log]
            wal-bytes-max: 8388608
            """
        )
    )
    config, tls = outcome.config, outcome.config.client_tls
    assert outcome.notices == ()
    assert config.name == "infra0"
    assert config.data_dir == Path("/var/lib/etcd")
    assert config.quota_backend_bytes == 8589934592
    assert [url.host for url in config.listen_client_urls] == ["10.0.0.1", "127.0.0.1"]
    assert [url.port for url in config.listen_metrics_urls] == [2381]
    assert config.initial_cluster_state is ClusterState.NEW
    assert config.watch_progress_notify_interval_s == 5
    assert config.auto_compaction is not None
    assert config.auto_compaction.period_s == 3600
    assert (tls.cert_file, tls.client_cert_auth) == (Path("/p/server.crt"), True)
    assert tls.allowed_cns == ("root", "kube-apiserver")
    assert tls.cipher_suites == ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",)
    assert config.socket_reuse_port
    assert config.log.format is LogFormat.CONSOLE
    assert config.log.outputs == ("/var/log/etcd.log", "stdout")
    assert config.wal_bytes_max == 8388608


def test_durations_may_also_be_written_as_on_the_command_line(file):
    outcome = loaded(file("watch-progress-notify-interval: 10m\n"))
    assert outcome.config.watch_progress_notify_interval_s == 600


def test_an_empty_file_is_all_defaults(file):
    assert loaded(file("")).config.name == "default"


def test_a_file_replaces_flags_and_variables_and_says_so(file):
    argv = [*file("name: from-file\n"), "--name=from-flag", "--max-txn-ops=1"]
    outcome = loaded(argv, {"ETCD_DATA_DIR": "/from-environment"})
    assert outcome.config.name == "from-file"
    assert outcome.config.max_txn_ops == 128
    assert outcome.config.data_dir == Path("from-file.kvshim")
    [notice] = outcome.notices
    assert notice.kind is NoticeKind.IGNORED_FOR_FILE
    assert notice.name == "--name, --max-txn-ops, ETCD_DATA_DIR"


def test_a_variable_beside_its_flag_is_no_conflict_when_a_file_replaces_both(file):
    outcome = loaded([*file("name: from-file\n"), "--name=a"], {"ETCD_NAME": "b"})
    assert outcome.config.name == "from-file"


def test_the_file_may_be_named_by_its_variable(file):
    [flag] = file("name: from-file\n")
    path = flag.partition("=")[2]
    outcome = loaded([], {"ETCD_CONFIG_FILE": path, "ETCD_FOO": "unseen"})
    assert outcome.config.name == "from-file"
    assert outcome.notices == ()


def test_the_flag_for_the_file_stands_above_its_variable(file):
    assert loaded(file("name: a\n"), {"ETCD_CONFIG_FILE": "/no/such/file"}).config.name == "a"


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("nmae: a", "nmae", "did you mean name?"),
        ("zzz: a", "zzz", "no setting has this name"),
        ("cert-file: /a", "cert-file", "it belongs under client-transport-security"),
        ("peer-cert-file: /a", "peer-cert-file", "it belongs under peer-transport-security"),
        ("socket-reuse-port: true", "socket-reuse-port", "it belongs under socket-options"),
        ("client-transport-security: {certfile: /a}", "client-transport-security.certfile",
         "etcd has no such key"),
        ("version: true", "version", "it belongs on the command line"),
    ],
)  # fmt: skip
def test_a_key_that_etcd_would_pass_over_is_a_warning(file, text, key, hint):
    [notice] = loaded(file(text)).notices
    assert notice.kind is NoticeKind.UNRECOGNIZED_KEY
    assert notice.name == key
    assert notice.reason == hint


def test_peers_keys_are_obeyed(file):
    text = "peer-transport-security: {cert-file: /a, key-file: /b, client-cert-auth: true}"
    found = loaded(file(text))
    assert found.notices == ()
    assert (str(found.config.peer_tls.cert_file), found.config.peer_tls.client_cert_auth) == (
        "/a",
        True,
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a\n- b", "must hold keys and values"),
        ("name: [a", "is not valid YAML"),
        ("heartbeat-interval: soon", 'invalid value "soon" for heartbeat-interval in '),
        ("heartbeat-interval: -1", "expected a whole number from 0"),
        ("name: {a: b}", "name must be a single value or a list"),
        ("client-transport-security: /a", "client-transport-security in "),
        ("initial-cluster-state: old", "expected new or existing"),
        ("discovery-config: {token: x, endpoints: [http://a:1]}", "is refused"),
        ("discovery: http://a", "--discovery is refused"),
        ("force-new-cluster: true", "--force-new-cluster is refused"),
        ("auto-compaction-mode: ''", "unknown --auto-compaction-mode"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_sentence(file, text, part):
    assert part in str(refusal(file(text)))


def test_a_file_that_is_not_there_is_named():
    assert str(refusal(["--config-file=/no/such/file"])) == (
        "cannot read the config file /no/such/file: No such file or directory"
    )


def test_bytes_that_are_no_text_are_told(tmp_path):
    path = tmp_path / "binary"
    path.write_bytes(b"name: \xff\xfe")
    assert "is not valid YAML" in str(refusal([f"--config-file={path}"]))


def test_listening_from_a_file_advertises_the_default_as_etcd_does(file):
    outcome = loaded(file("listen-client-urls: http://127.0.0.1:9999\n"))
    assert [str(url) for url in outcome.config.advertise_client_urls] == ["http://127.0.0.1:2379"]
