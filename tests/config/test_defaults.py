"""Without any flag a node runs, with etcd's limits and on this machine alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.config import (
    NO_QUOTA,
    AutoCompaction,
    CompactionMode,
    LogFormat,
    LogLevel,
    MetricsLevel,
    Notice,
    NoticeKind,
)
from tests.config.helpers import config_of, loaded, refusal


def test_no_flags_make_a_node_on_this_machine_with_etcds_limits():
    outcome = loaded([])
    config = outcome.config
    assert outcome.notices == ()
    assert config.name == "default"
    assert config.data_dir == Path("default.kvshim")
    assert [str(url) for url in config.listen_client_urls] == ["http://127.0.0.1:2379"]
    assert [str(url) for url in config.advertise_client_urls] == ["http://127.0.0.1:2379"]
    assert config.listen_metrics_urls == ()
    assert config.quota_backend_bytes == 2 * 1024**3
    assert (config.max_request_bytes, config.max_txn_ops) == (1572864, 128)
    assert (config.heartbeat_ms, config.election_ms) == (100, 1000)
    assert config.auto_compaction is None
    assert config.watch_progress_notify_interval_s == 600
    assert config.warning_apply_duration_s == 0.1
    assert config.grpc_keepalive_min_time_s == 5
    assert config.log.format is LogFormat.JSON
    assert config.log.level is LogLevel.INFO
    assert config.log.outputs == ("stderr",)
    assert config.metrics is MetricsLevel.BASIC
    assert config.wal_bytes_max == 64 * 1024 * 1024
    assert not config.client_tls.available
    assert config.cors == config.host_whitelist == ("*",)


def test_the_data_lies_in_a_directory_of_the_members_name():
    assert config_of(["--name=infra0"]).data_dir == Path("infra0.kvshim")
    assert config_of(["--name=infra0", "--data-dir=/d"]).data_dir == Path("/d")


def test_a_member_alone_is_its_own_initial_cluster():
    config = config_of(["--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:2380"])
    [(name, urls)] = config.initial_cluster
    assert (name, [str(url) for url in urls]) == ("a", ["http://10.0.0.1:2380"])


@pytest.mark.parametrize(
    ("text", "quota"), [("0", 2 * 1024**3), ("1000", 1000), ("-1", NO_QUOTA), ("-5", NO_QUOTA)]
)
def test_a_quota_of_0_is_the_default_and_below_0_is_none(text, quota):
    assert config_of([f"--quota-backend-bytes={text}"]).quota_backend_bytes == quota


PERIODIC, REVISION = CompactionMode.PERIODIC, CompactionMode.REVISION


@pytest.mark.parametrize(
    ("mode", "retention", "expected"),
    [
        ("periodic", "0", None),
        ("periodic", "", None),
        ("periodic", "0s", None),
        ("periodic", "5", AutoCompaction(PERIODIC, 5 * 3600.0, 0)),
        ("periodic", "90s", AutoCompaction(PERIODIC, 90.0, 0)),
        ("revision", "1000", AutoCompaction(REVISION, 0.0, 1000)),
        ("revision", "0", None),
    ],
)
def test_the_compaction_retention_is_hours_a_duration_or_revisions(mode, retention, expected):
    argv = [f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={retention}"]
    assert config_of(argv).auto_compaction == expected


@pytest.mark.parametrize(
    ("mode", "retention", "part"),
    [
        ("sometimes", "1", "unknown --auto-compaction-mode"),
        ("", "1", "unknown --auto-compaction-mode"),
        ("periodic", "soon", "expected a duration"),
        ("periodic", "-1h", "must not be below 0"),
        ("revision", "5m", "is no count of revisions"),
    ],
)
def test_a_wrong_compaction_setting_is_refused(mode, retention, part):
    argv = [f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={retention}"]
    assert part in str(refusal(argv))


def test_progress_is_never_sent_more_often_than_every_100_ms():
    outcome = loaded(["--watch-progress-notify-interval=1ms"])
    assert outcome.config.watch_progress_notify_interval_s == 0.1
    [notice] = outcome.notices
    assert notice.kind is NoticeKind.ADVICE


def test_an_unknown_level_of_metrics_is_basic_as_in_etcd():
    outcome = loaded(["--metrics=lots"])
    assert outcome.config.metrics is MetricsLevel.BASIC
    assert outcome.notices == (
        Notice(
            NoticeKind.ADVICE,
            "--metrics",
            '"lots" is taken for basic, the only other level than extensive',
        ),
    )
    assert config_of(["--metrics=extensive"]).metrics is MetricsLevel.EXTENSIVE


def test_lists_of_hosts_and_origins_are_sets():
    config = config_of(["--host-whitelist=b,a,b", "--cors=http://b:1,http://a:1"])
    assert config.host_whitelist == ("a", "b")
    assert config.cors == ("http://a:1", "http://b:1")
    assert config_of(["--host-whitelist=", "--cors="]).host_whitelist == ("*",)
