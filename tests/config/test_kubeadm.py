"""A manifest of kubeadm needs only the program's name changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.config import NoticeKind
from tests.config.helpers import loaded

# What kubeadm 1.37 writes for the first control-plane node, by its own defaults.
V1_37 = [
    "--advertise-client-urls=https://10.0.0.1:2379",
    "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
    "--client-cert-auth=true",
    "--data-dir=/var/lib/etcd",
    "--feature-gates=InitialCorruptCheck=true",
    "--initial-advertise-peer-urls=https://10.0.0.1:2380",
    "--initial-cluster=cp1=https://10.0.0.1:2380",
    "--key-file=/etc/kubernetes/pki/etcd/server.key",
    "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
    "--listen-metrics-urls=http://127.0.0.1:2381",
    "--listen-peer-urls=https://10.0.0.1:2380",
    "--name=cp1",
    "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
    "--peer-client-cert-auth=true",
    "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
    "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    "--snapshot-count=10000",
    "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    "--watch-progress-notify-interval=5s",
]

OLDER = {
    "--feature-gates=InitialCorruptCheck=true": "--experimental-initial-corrupt-check=true",
    "--watch-progress-notify-interval=5s": "--experimental-watch-progress-notify-interval=5s",
}


def test_the_manifest_of_kubeadm_1_37_is_understood():
    config = loaded(V1_37).config
    assert config.name == "cp1"
    assert config.data_dir == Path("/var/lib/etcd")
    assert [str(url) for url in config.listen_client_urls] == [
        "https://10.0.0.1:2379",
        "https://127.0.0.1:2379",
    ]
    assert [str(url) for url in config.advertise_client_urls] == ["https://10.0.0.1:2379"]
    assert [str(url) for url in config.listen_metrics_urls] == ["http://127.0.0.1:2381"]
    tls = config.client_tls
    assert tls.cert_file == Path("/etc/kubernetes/pki/etcd/server.crt")
    assert tls.key_file == Path("/etc/kubernetes/pki/etcd/server.key")
    assert tls.trusted_ca_file == Path("/etc/kubernetes/pki/etcd/ca.crt")
    assert tls.client_cert_auth
    assert config.watch_progress_notify_interval_s == 5
    assert config.snapshot_count == 10000
    assert "InitialCorruptCheck" in config.feature_gates


def test_what_is_not_obeyed_is_one_warning_each():
    notices = loaded(V1_37).notices
    assert {notice.kind for notice in notices} == {NoticeKind.NO_EFFECT}
    assert [notice.name for notice in notices] == [
        "--snapshot-count",
        "--feature-gates=InitialCorruptCheck",
    ]


def test_an_older_manifest_means_the_same():
    older = [OLDER.get(argument, argument) for argument in V1_37]
    assert loaded(older).config == loaded(V1_37).config
    told = {notice.name for notice in loaded(older).notices}
    assert "--experimental-initial-corrupt-check" in told
    assert "--experimental-watch-progress-notify-interval" in told


def test_an_ipv6_manifest_is_understood():
    sixth = [
        argument.replace("10.0.0.1", "[fd00::1]").replace("127.0.0.1", "[::1]")
        for argument in V1_37
    ]
    assert [url.host for url in loaded(sixth).config.listen_client_urls] == ["::1", "fd00::1"]


def test_the_manifest_of_a_joining_node_names_the_others():
    joining = [argument for argument in V1_37 if not argument.startswith("--initial-cluster=")]
    joining += ["--initial-cluster=cp0=https://10.0.0.9:2380,cp1=https://10.0.0.1:2380",
                "--initial-cluster-state=existing"]  # fmt: skip
    assert [name for name, _ in loaded(joining).config.initial_cluster] == ["cp0", "cp1"]


@pytest.mark.parametrize("argument", V1_37)
def test_every_argument_may_be_written_in_two(argument):
    name, _, value = argument.partition("=")
    if value == "true":
        return
    split = [*V1_37[: V1_37.index(argument)], name, value, *V1_37[V1_37.index(argument) + 1 :]]
    assert loaded(split).config == loaded(V1_37).config
