"""What a person sees once the node is ready: where it listens, where the data lies, what to try.

Pure text from the configuration.
"""

from __future__ import annotations

import shlex

from kvshim.config import Config, TransportKind, Url

_ANY_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}


def banner(config: Config) -> str:
    """Plain lines without colour, fit for a terminal and for a log."""
    clients = ", ".join(map(str, config.listen_client_urls))
    serving = [*config.listen_metrics_urls]
    if config.transport is TransportKind.HTTP2:
        serving = [*config.listen_client_urls, *serving]
    metrics = ", ".join(f"{url}/metrics" for url in serving) or "nowhere"
    lines = [
        "",
        f"kvshim is ready ({config.name}).",
        f"  clients   {clients}",
        f"  metrics   {metrics}",
        f"  data      {config.data_dir.absolute()}",
        "",
        "Try:",
        *(f"  {command}" for command in commands_to_try(config)),
        "",
    ]
    return "\n".join(lines)


def commands_to_try(config: Config) -> tuple[str, str, str]:
    """Three commands that work on this node as they stand, but for the client's certificate."""
    etcdctl = f"etcdctl --endpoints={shlex.quote(_endpoint(config))}{_certificates(config)}"
    return (
        f"{etcdctl} put greeting hello",
        f"{etcdctl} get greeting",
        f"{etcdctl} endpoint status -w table",
    )


def _endpoint(config: Config) -> str:
    """The plainest address: one without TLS first, then one on this machine."""
    url = min(config.listen_client_urls, key=lambda url: (url.tls, not _is_local(url), str(url)))
    return str(Url(url.scheme, _ANY_HOSTS.get(url.host, url.host), url.port))


def _is_local(url: Url) -> bool:
    return url.is_unix or url.host in _ANY_HOSTS or url.host in ("127.0.0.1", "::1")


def _certificates(config: Config) -> str:
    if not all(url.tls for url in config.listen_client_urls):
        return ""
    tls = config.client_tls
    if tls.auto_tls:
        return " --insecure-skip-tls-verify"
    if tls.trusted_ca_file is None:
        return " --cacert=CA.crt"
    ca = shlex.quote(str(tls.trusted_ca_file))
    return f" --cacert={ca} --cert=CLIENT.crt --key=CLIENT.key"
