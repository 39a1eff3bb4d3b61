"""From settings to a `Config`: every obeyed flag becomes a typed field.

Pure. Raises ConfigError for a value that its field cannot hold; what contradicts what is the
business of `checks`.
"""

from __future__ import annotations

from pathlib import Path

from kvshim.config import gates
from kvshim.config.build_auth import build_auth
from kvshim.config.build_logs import build_logs
from kvshim.config.errors import ConfigError
from kvshim.config.model import (
    NO_QUOTA,
    AutoCompaction,
    ClientTls,
    ClusterState,
    CompactionMode,
    Config,
    MetricsLevel,
    PeerTls,
    TlsVersion,
    TransportKind,
    WithoutQuorum,
)
from kvshim.config.role_numbers import RoleNumbers
from kvshim.config.settings import Notice, NoticeKind, Settings, Source
from kvshim.config.url import Url, parse_url
from kvshim.config.values import parse_duration

QUOTA_BYTES_DEFAULT = 2 * 1024**3
PROGRESS_INTERVAL_S_DEFAULT = 600.0
PROGRESS_INTERVAL_S_MIN = 0.1
SCRUB_INTERVAL_S_MIN = 1.0
_HOUR_S = 3600.0

Cluster = tuple[tuple[str, tuple[Url, ...]], ...]


def build(settings: Settings, notices: list[Notice]) -> Config:
    """The configuration that `settings` describe. What was adjusted is added to `notices`."""
    name = settings.text("name")
    if not name:
        raise ConfigError("--name must not be empty")
    advertised_to_peers = settings.urls("initial-advertise-peer-urls")
    return Config(
        name=name,
        data_dir=Path(settings.text("data-dir") or f"{name}.kvshim"),
        listen_client_urls=settings.urls("listen-client-urls"),
        listen_client_http_urls=settings.urls("listen-client-http-urls"),
        advertise_client_urls=settings.urls("advertise-client-urls"),
        listen_peer_urls=settings.urls("listen-peer-urls"),
        peer_urls_given=settings.given("listen-peer-urls"),
        initial_advertise_peer_urls=advertised_to_peers,
        listen_metrics_urls=settings.urls("listen-metrics-urls"),
        initial_cluster=_initial_cluster(settings, name, advertised_to_peers),
        initial_cluster_given=bool(settings.texts.get("initial-cluster")),
        initial_cluster_state=ClusterState(settings.text("initial-cluster-state")),
        initial_cluster_token=settings.text("initial-cluster-token"),
        heartbeat_ms=settings.number("heartbeat-interval"),
        election_ms=settings.number("election-timeout"),
        election_given=settings.given("election-timeout"),
        pre_vote=settings.flag("pre-vote"),
        strict_reconfig_check=settings.flag("strict-reconfig-check"),
        role_numbers=RoleNumbers(settings.number("voters"), settings.number("standbys")),
        role_numbers_given=settings.given("voters") or settings.given("standbys"),
        failure_domain=settings.text("failure-domain"),
        replace_after_s=settings.seconds("replace-after"),
        snapshot_count=settings.number("snapshot-count"),
        quota_backend_bytes=_quota(settings.number("quota-backend-bytes")),
        max_request_bytes=settings.number("max-request-bytes"),
        max_txn_ops=settings.number("max-txn-ops"),
        auto_compaction=_auto_compaction(settings),
        wal_bytes_max=settings.number("wal-bytes-max"),
        scrub_interval_s=max(SCRUB_INTERVAL_S_MIN, settings.seconds("scrub-interval")),
        corrupt_check_time_s=max(0.0, settings.seconds("corrupt-check-time")),
        watch_progress_notify_interval_s=_progress_interval(settings, notices),
        warning_apply_duration_s=settings.seconds("warning-apply-duration"),
        warning_unary_request_duration_s=settings.seconds("warning-unary-request-duration") or 0.3,
        read_only_without_quorum=WithoutQuorum(settings.text("read-only-without-quorum")),
        transport=TransportKind(settings.text("transport")),
        max_concurrent_streams=settings.number("max-concurrent-streams"),
        grpc_keepalive_min_time_s=max(0.0, settings.seconds("grpc-keepalive-min-time")),
        grpc_keepalive_interval_s=max(0.0, settings.seconds("grpc-keepalive-interval")),
        grpc_keepalive_timeout_s=max(0.0, settings.seconds("grpc-keepalive-timeout")),
        socket_reuse_port=settings.flag("socket-reuse-port"),
        socket_reuse_address=settings.flag("socket-reuse-address"),
        client_tls=_client_tls(settings),
        peer_tls=_peer_tls(settings),
        auth=build_auth(settings, notices),
        enable_grpc_gateway=settings.flag("enable-grpc-gateway"),
        cors=settings.unique_strings("cors") or ("*",),
        host_whitelist=tuple(filter(None, settings.unique_strings("host-whitelist"))) or ("*",),
        metrics=_metrics_level(settings, notices),
        log=build_logs(settings, notices),
        feature_gates=gates.effective(settings.gates()),
    )


def _initial_cluster(settings: Settings, name: str, peer_urls: tuple[Url, ...]) -> Cluster:
    """`a=url,b=url`, several urls under one name allowed; not given, it is this member alone."""
    text = settings.text("initial-cluster") if settings.given("initial-cluster") else ""
    if not text:
        return ((name, peer_urls),)
    members: dict[str, set[Url]] = {}
    for item in filter(None, text.split(",")):
        member, _, url = item.partition("=")
        try:
            members.setdefault(member, set()).add(parse_url(url))
        except ValueError as reason:
            spelled = settings.spelled("initial-cluster")
            raise ConfigError(f'invalid value "{text}" for {spelled}: {reason}') from None
    return tuple((member, tuple(sorted(urls, key=str))) for member, urls in members.items())


def _quota(given: int) -> int:
    if given == 0:
        return QUOTA_BYTES_DEFAULT
    return given if given > 0 else NO_QUOTA


def _auto_compaction(settings: Settings) -> AutoCompaction | None:
    """etcd's reading: a bare number is hours or revisions, anything else is a duration."""
    mode_text = settings.text("auto-compaction-mode")
    try:
        mode = CompactionMode(mode_text)
    except ValueError:
        raise ConfigError(
            f'unknown --auto-compaction-mode "{mode_text}": expected periodic or revision'
        ) from None
    text = settings.text("auto-compaction-retention") or "0"
    if text.isascii() and text.isdigit():
        count = int(text)
        if count == 0:
            return None
        if mode is CompactionMode.REVISION:
            return AutoCompaction(mode, 0.0, count)
        return AutoCompaction(mode, count * _HOUR_S, 0)
    if mode is CompactionMode.REVISION:
        raise ConfigError(
            f'--auto-compaction-retention "{text}" is no count of revisions,'
            " which --auto-compaction-mode=revision needs"
        )
    return _periodic(text)


def _periodic(text: str) -> AutoCompaction | None:
    try:
        period = parse_duration(text)
    except ValueError as reason:
        raise ConfigError(
            f'invalid value "{text}" for --auto-compaction-retention: {reason}'
        ) from None
    if period < 0:
        raise ConfigError("--auto-compaction-retention must not be below 0")
    return AutoCompaction(CompactionMode.PERIODIC, period / 1e9, 0) if period else None


def _progress_interval(settings: Settings, notices: list[Notice]) -> float:
    name = "watch-progress-notify-interval"
    seconds = settings.seconds(name)
    if seconds <= 0:
        return PROGRESS_INTERVAL_S_DEFAULT
    if seconds < PROGRESS_INTERVAL_S_MIN:
        notices.append(Notice(NoticeKind.ADVICE, f"--{name}", "it is raised to 100ms, the least"))
    return max(seconds, PROGRESS_INTERVAL_S_MIN)


def _metrics_level(settings: Settings, notices: list[Notice]) -> MetricsLevel:
    text = settings.text("metrics")
    try:
        return MetricsLevel(text)
    except ValueError:
        reason = f'"{text}" is taken for basic, the only other level than extensive'
        notices.append(Notice(NoticeKind.ADVICE, "--metrics", reason))
        return MetricsLevel.BASIC


def _client_tls(settings: Settings) -> ClientTls:
    cert = _path(settings, "cert-file")
    key = _path(settings, "key-file")
    least = _tls_version(settings, "tls-min-version")
    return ClientTls(
        cert_file=cert,
        key_file=key,
        trusted_ca_file=_path(settings, "trusted-ca-file"),
        client_cert_auth=settings.flag("client-cert-auth"),
        crl_file=_path(settings, "client-crl-file"),
        allowed_hostnames=settings.strings("client-cert-allowed-hostname"),
        allowed_cns=settings.allowed_cns,
        auto_tls=settings.flag("auto-tls") and cert is None and key is None,
        self_signed_validity_years=_validity_years(settings),
        cipher_suites=settings.strings("cipher-suites"),
        min_version=least or TlsVersion.TLS12,
        max_version=_tls_version(settings, "tls-max-version"),
    )


def _peer_tls(settings: Settings) -> PeerTls:
    cert = _path(settings, "peer-cert-file")
    key = _path(settings, "peer-key-file")
    return PeerTls(
        cert_file=cert,
        key_file=key,
        client_cert_file=_path(settings, "peer-client-cert-file"),
        client_key_file=_path(settings, "peer-client-key-file"),
        trusted_ca_file=_path(settings, "peer-trusted-ca-file"),
        client_cert_auth=settings.flag("peer-client-cert-auth"),
        crl_file=_path(settings, "peer-crl-file"),
        allowed_hostnames=settings.strings("peer-cert-allowed-hostname"),
        allowed_cns=settings.strings("peer-cert-allowed-cn"),
        auto_tls=settings.flag("peer-auto-tls") and cert is None and key is None,
        self_signed_validity_years=_validity_years(settings),
        cipher_suites=settings.strings("cipher-suites"),
        min_version=_tls_version(settings, "tls-min-version") or TlsVersion.TLS12,
        max_version=_tls_version(settings, "tls-max-version"),
    )


def _validity_years(settings: Settings) -> int:
    """0 in a config file is etcd's way of saying the default; on the command line it is wrong."""
    years = settings.number("self-signed-cert-validity")
    if years == 0 and settings.sources["self-signed-cert-validity"] is Source.FILE:
        return 1
    return years


def _path(settings: Settings, name: str) -> Path | None:
    text = settings.text(name)
    return Path(text) if text else None


def _tls_version(settings: Settings, name: str) -> TlsVersion | None:
    text = settings.text(name)
    if not text:
        return None
    try:
        return TlsVersion(text)
    except ValueError:
        raise ConfigError(
            f'unexpected TLS version "{text}" for --{name}: expected TLS1.2 or TLS1.3'
        ) from None
