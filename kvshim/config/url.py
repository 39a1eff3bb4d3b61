"""The URLs that flags carry: scheme, host and port, or the path of a Unix socket.

Pure functions without lookups: a host name is never resolved here. Rules and their order are
etcd's (`client/pkg/types`, `embed`): http and https need `host:port` and no path; addresses to
bind must be IP addresses or `localhost`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class Scheme(StrEnum):
    HTTP = "http"
    HTTPS = "https"
    UNIX = "unix"
    UNIXS = "unixs"


@dataclass(frozen=True, slots=True)
class Url:
    """One address. For `unix` and `unixs`, `host` is the path of the socket and `port` is 0."""

    scheme: Scheme
    host: str
    port: int

    @property
    def tls(self) -> bool:
        return self.scheme in (Scheme.HTTPS, Scheme.UNIXS)

    @property
    def is_unix(self) -> bool:
        return self.scheme in (Scheme.UNIX, Scheme.UNIXS)

    @property
    def address(self) -> str:
        """`host:port` with brackets around IPv6, or the path of the socket."""
        if self.is_unix:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


def parse_url(text: str) -> Url:
    """Parse one URL; ValueError carries the reason, without the flag's name."""
    text = text.strip()
    scheme_text, separator, rest = text.partition(":")
    try:
        scheme = Scheme(scheme_text.lower())
    except ValueError:
        scheme = None
    if not separator or scheme is None:
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    if scheme in (Scheme.UNIX, Scheme.UNIXS):
        path = rest.removeprefix("//")
        if not path:
            raise ValueError(f"URL names no socket path: {text}")
        return Url(scheme, path, 0)
    return _parse_tcp(scheme, text)


def _parse_tcp(scheme: Scheme, text: str) -> Url:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{str(error).lower()}: {text}") from None
    if port is None:
        raise ValueError(f'URL address does not have the form "host:port": {text}')
    if parts.path:
        raise ValueError(f"URL must not contain a path: {text}")
    return Url(scheme, parts.hostname or "", port)


def parse_urls(text: str) -> tuple[Url, ...]:
    """A comma-separated list, sorted and without duplicates, as etcd keeps it."""
    return tuple(sorted({parse_url(item) for item in text.split(",")}, key=str))


def bind_problem(url: Url) -> str | None:
    """Why this address cannot be listened on, or None: etcd binds no host names."""
    if url.is_unix or url.host == "localhost":
        return None
    try:
        ipaddress.ip_address(url.host)
    except ValueError:
        return f"expected IP in URL for binding ({url})"
    return None
