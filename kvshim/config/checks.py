"""What contradicts what: the checks etcd makes before it starts, each one clear sentence.

Order and rules follow etcd's `Config.Validate`, its check of the client listeners and of the
initial cluster. Looks at the data directory only to see whether the member begins anew.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from itertools import chain

from kvshim.config.ciphers import KNOWN_SUITES
from kvshim.config.errors import ConfigError
from kvshim.config.model import ClusterState, Config, TlsVersion
from kvshim.config.settings import Notice, NoticeKind, Settings, Source
from kvshim.config.url import Url, bind_problem

ELECTION_MS_MAX = 50_000
DOMAIN_CHARACTERS_MAX = 128
REPLACE_AFTER_S_MIN = 1.0


def check(config: Config, settings: Settings) -> list[Notice]:
    """Raise ConfigError for the first contradiction; return advice on what is merely odd."""
    _check_addresses(config)
    _check_elections(config)
    _check_advertised(config, settings)
    _check_gates_and_hashes(config, settings)
    _check_tls_versions(config)
    notices = _check_certificates(config, settings)
    _check_peer_certificates(config)
    _check_sharing(config)
    _check_initial_cluster(config, settings)
    _check_sizes(config)
    _check_roles(config)
    return notices


def _check_addresses(config: Config) -> None:
    for flag, urls in (
        ("listen-peer-urls", config.listen_peer_urls),
        ("listen-client-urls", config.listen_client_urls),
        ("listen-client-http-urls", config.listen_client_http_urls),
        ("listen-metrics-urls", config.listen_metrics_urls),
    ):
        for problem in filter(None, map(bind_problem, urls)):
            raise ConfigError(f"--{flag}: {problem}")
    for flag, urls in (
        ("initial-advertise-peer-urls", config.initial_advertise_peer_urls),
        ("advertise-client-urls", config.advertise_client_urls),
    ):
        for url in urls:
            if not url.host:
                raise ConfigError(f"--{flag}: unexpected empty host ({url})")


def _check_elections(config: Config) -> None:
    heartbeat, election = config.heartbeat_ms, config.election_ms
    if heartbeat == 0:
        raise ConfigError("--heartbeat-interval must be above 0")
    if election == 0:
        raise ConfigError("--election-timeout must be above 0")
    if 5 * heartbeat > election:
        raise ConfigError(
            f"--election-timeout[{election}ms] should be at least 5 times"
            f" --heartbeat-interval[{heartbeat}ms]"
        )
    if election > ELECTION_MS_MAX:
        raise ConfigError(
            f"--election-timeout[{election}ms] is too long: at most {ELECTION_MS_MAX}ms"
        )


def _check_roles(config: Config) -> None:
    if problem := config.role_numbers.problem():
        raise ConfigError(problem)
    if len(config.failure_domain) > DOMAIN_CHARACTERS_MAX:
        raise ConfigError(f"--failure-domain is longer than {DOMAIN_CHARACTERS_MAX} characters")
    if config.replace_after_s < REPLACE_AFTER_S_MIN:
        raise ConfigError(
            f"--replace-after must be at least {REPLACE_AFTER_S_MIN:g}s: an election comes first"
        )


def _check_advertised(config: Config, settings: Settings) -> None:
    """From a config file etcd does not ask for this, having filled in its default."""
    listens = settings.given("listen-client-urls") and settings.text("listen-client-urls")
    if not listens or settings.sources["listen-client-urls"] is Source.FILE:
        return
    if not settings.given("advertise-client-urls"):
        example = ",".join(map(str, config.listen_client_urls))
        raise ConfigError(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly:"
            f" add --advertise-client-urls={example}, or what clients reach it by"
        )


def _check_gates_and_hashes(config: Config, settings: Settings) -> None:
    on = config.feature_gates
    if "LeaseCheckpointPersist" in on and "LeaseCheckpoint" not in on:
        raise ConfigError(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate"
            " LeaseCheckpoint"
        )
    if settings.nanoseconds("compact-hash-check-time") <= 0:
        raise ConfigError("--compact-hash-check-time must be above 0")


def _check_tls_versions(config: Config) -> None:
    tls = config.client_tls
    if tls.max_version is TlsVersion.TLS12 and tls.min_version is TlsVersion.TLS13:
        raise ConfigError("--tls-min-version is above --tls-max-version")
    if tls.min_version is TlsVersion.TLS13 and tls.cipher_suites:
        raise ConfigError("--cipher-suites cannot be chosen when only TLS1.3 is allowed")
    for suite in tls.cipher_suites:
        if suite not in KNOWN_SUITES:
            raise ConfigError(f'unexpected TLS cipher suite "{suite}" in --cipher-suites')


def _check_certificates(config: Config, settings: Settings) -> list[Notice]:
    tls, files = config.client_tls, config.client_tls.cert_file or config.client_tls.key_file
    if (tls.cert_file is None) != (tls.key_file is None):
        given, missing = ("cert", "key") if tls.cert_file else ("key", "cert")
        raise ConfigError(f"--{given}-file is given without --{missing}-file: give both")
    if bool(settings.text("client-cert-file")) != bool(settings.text("client-key-file")):
        raise ConfigError("--client-cert-file and --client-key-file must be given together")
    if tls.allowed_cns and tls.allowed_hostnames:
        raise ConfigError("allowed-cn and allowed-hostname are mutually exclusive")
    notices: list[Notice] = []
    if files and settings.flag("auto-tls"):
        notices.append(Notice(NoticeKind.ADVICE, "--auto-tls", "certificates are given and win"))
    served = (*config.listen_client_urls, *config.listen_client_http_urls)
    for url in (*served, *config.listen_metrics_urls):
        if url.tls and not tls.available:
            raise ConfigError(
                f"{url} needs a certificate: give --cert-file and --key-file, or --auto-tls"
            )
    if any(url.tls for url in served):
        _check_client_certificates(config)
    notices += [_ignored_on(url) for url in served if not url.tls and tls.available]
    return notices


def _check_client_certificates(config: Config) -> None:
    tls = config.client_tls
    if tls.auto_tls and tls.demands_client_cert:
        raise ConfigError(
            "--auto-tls cannot check client certificates: give --cert-file and --key-file, or"
            " leave out --client-cert-auth and --trusted-ca-file"
        )
    if tls.client_cert_auth and tls.trusted_ca_file is None:
        raise ConfigError(
            "--client-cert-auth needs --trusted-ca-file, the CA that signs client certificates"
        )
    if tls.auto_tls and tls.self_signed_validity_years == 0:
        raise ConfigError("--self-signed-cert-validity must be above 0")
    checks_names = tls.crl_file or tls.allowed_hostnames or tls.allowed_cns
    if checks_names and not tls.demands_client_cert:
        raise ConfigError(
            "--client-crl-file and --client-cert-allowed-hostname check client certificates, which"
            " nothing demands: add --client-cert-auth and --trusted-ca-file"
        )


def _check_peer_certificates(config: Config) -> None:
    tls = config.peer_tls
    for kind, cert, key in (
        ("peer", tls.cert_file, tls.key_file),
        ("peer-client", tls.client_cert_file, tls.client_key_file),
    ):
        if (cert is None) != (key is None):
            raise ConfigError(f"--{kind}-cert-file and --{kind}-key-file must be given together")
    if tls.allowed_cns and tls.allowed_hostnames:
        raise ConfigError(
            "--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other"
        )


def _ignored_on(url: Url) -> Notice:
    reason = f"{url} is served without TLS, so the certificate flags do not apply to it"
    return Notice(NoticeKind.ADVICE, "--listen-client-urls", reason)


def _check_sharing(config: Config) -> None:
    taken = {url.address for url in config.listen_client_urls}
    for url in config.listen_client_http_urls:
        if url.address in taken:
            raise ConfigError(
                "cannot bind both --listen-client-urls and --listen-client-http-urls on the same"
                f" url {url}"
            )
    for url in config.listen_metrics_urls:
        if url.port != 0 and url.address in taken:
            raise ConfigError(f"--listen-metrics-urls and --listen-client-urls both name {url}")


def _check_initial_cluster(config: Config, settings: Settings) -> None:
    """etcd reads these flags only before there is data."""
    names = [name for name, _ in config.initial_cluster]
    if not _begins_anew(config):
        return
    if config.name not in names:
        raise ConfigError(
            f'couldn\'t find local name "{config.name}" in --initial-cluster, which names'
            f" {', '.join(names) or 'nobody'}: make --name and --initial-cluster agree"
        )
    if config.initial_cluster_state is ClusterState.EXISTING and len(names) == 1:
        raise ConfigError(
            "--initial-cluster-state=existing needs the other members in --initial-cluster, to ask"
            " them: name all of them"
        )
    taken: dict[Url, str] = {}
    for name, urls in config.initial_cluster:
        for url in urls:
            if url in taken:
                raise ConfigError(
                    f"--initial-cluster gives {url} to {taken[url]} and to {name}: each member"
                    " needs an address of its own"
                )
            taken[url] = name
    given = list(
        chain.from_iterable(urls for name, urls in config.initial_cluster if name == config.name)
    )
    if settings.given("initial-cluster") and _differ(given, config.initial_advertise_peer_urls):
        raise ConfigError(
            f"--initial-cluster has {config.name}={','.join(map(str, given))}, but"
            " --initial-advertise-peer-urls is"
            f" {','.join(map(str, config.initial_advertise_peer_urls))}: make them equal"
        )


def _begins_anew(config: Config) -> bool:
    try:
        return next(config.data_dir.iterdir(), None) is None
    except OSError:
        return True


def _differ(one: Sequence[Url], other: Sequence[Url]) -> bool:
    """Host names could name the same host, and nothing is looked up here: they pass."""
    if {_located(url) for url in one} == {_located(url) for url in other}:
        return False
    hosts = [_located(url)[1] for url in (*one, *other)]
    return len(one) != len(other) or all(map(_is_ip, hosts))


def _located(url: Url) -> tuple[str, str, int]:
    return (url.scheme, "127.0.0.1" if url.host == "localhost" else url.host, url.port)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_sizes(config: Config) -> None:
    if config.wal_bytes_max < 1024 * 1024:
        raise ConfigError("--wal-bytes-max must be at least 1048576 (1 MiB)")
    if config.max_request_bytes == 0:
        raise ConfigError("--max-request-bytes must be above 0")
    if config.max_txn_ops == 0:
        raise ConfigError("--max-txn-ops must be above 0")
