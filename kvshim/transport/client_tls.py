"""From the flags of TLS towards clients to the options a listener is made of. Runs at start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kvshim.config import ClientTls, Url
from kvshim.logs import Event, Logger
from kvshim.transport.self_signed import ensure_self_signed
from kvshim.transport.tls import TlsOptions, expiry_warning, load_key_pair

FIXTURES = Path("fixtures") / "client"
"""Where `--auto-tls` keeps its pair, below the data directory, as in etcd."""


def resolve_client_tls(
    flags: ClientTls, data_dir: Path, urls: Sequence[Url], log: Logger
) -> TlsOptions | None:
    """Check every file, make the self-signed pair if asked to; None without any certificate."""
    if not flags.available:
        return None
    cert_file, key_file = flags.cert_file, flags.key_file
    if cert_file is None or key_file is None:
        hosts = [url.host for url in urls if not url.is_unix]
        directory = data_dir / FIXTURES
        cert_file, key_file = ensure_self_signed(directory, hosts, flags.self_signed_validity_years)
        log.info(Event.CERTIFICATE_CREATED, path=str(cert_file))
    options = TlsOptions(
        cert_file=cert_file,
        key_file=key_file,
        trusted_ca_file=flags.trusted_ca_file,
        client_cert_auth=flags.client_cert_auth,
        allowed_hostnames=flags.allowed_hostnames,
        allowed_common_names=flags.allowed_cns,
        crl_file=flags.crl_file,
        min_version=flags.min_version,
        max_version=flags.max_version,
        cipher_suites=flags.cipher_suites,
    )
    load_key_pair(options)
    warning = expiry_warning(options)
    if warning is not None:
        log.warn(Event.SETTING_ADVICE, advice=warning)
    return options
