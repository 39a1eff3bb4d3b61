"""Sockets that listen, and one clear sentence when they cannot.

Addresses are bound as Go's `net.Listen` binds them, since flags are written for etcd: no host
means every address of both families, `localhost` means 127.0.0.1. Blocking calls, used at start.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from kvshim.config.url import Url
from kvshim.errors import StartupError

BACKLOG = 1024


def listen(url: Url, *, reuse_port: bool = False) -> socket.socket:
    """A non-blocking listening socket on `url`; StartupError says why there is none."""
    try:
        sock = _listen_unix(url) if url.is_unix else _listen_tcp(url, reuse_port=reuse_port)
    except (OSError, OverflowError) as error:
        raise StartupError(_sentence(url, error)) from error
    sock.settimeout(0)
    return sock


def check_free(url: Url, *, reuse_port: bool = False) -> None:
    """Raise StartupError if `url` cannot be listened on; leaves nothing behind.

    For transports that open their own sockets and report failures badly.
    """
    listen(url, reuse_port=reuse_port).close()
    remove_socket(url)


def remove_socket(url: Url) -> None:
    """Take away the file of a Unix socket that we listened on."""
    if url.is_unix:
        Path(url.host).unlink(missing_ok=True)


def tcp_host(url: Url) -> str:
    """The address to bind: `::` stands for every address of both families."""
    if url.host == "localhost":
        return "127.0.0.1"
    if url.host:
        return url.host
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def _listen_tcp(url: Url, *, reuse_port: bool) -> socket.socket:
    host = tcp_host(url)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server(
        (host, url.port),
        family=family,
        backlog=BACKLOG,
        reuse_port=reuse_port,
        dualstack_ipv6=family == socket.AF_INET6 and not url.host,
    )


def _listen_unix(url: Url) -> socket.socket:
    _remove_stale(Path(url.host))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(url.host)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket that a dead process left; keep one that somebody still answers on."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EEXIST, "it exists and is not a socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))


def _sentence(url: Url, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    match number:
        case errno.EADDRINUSE:
            return f"cannot listen on {url}: the address is already in use by another process"
        case errno.EACCES:
            return f"cannot listen on {url}: no permission"
        case errno.EADDRNOTAVAIL:
            return f"cannot listen on {url}: this machine does not have the address"
        case _:
            reason = error.strerror if isinstance(error, OSError) else None
            return f"cannot listen on {url}: {reason or error}"
