"""Telling a service manager that the node is ready or stops, as etcd does.

systemd units with `Type=notify`, such as Debian's for etcd, name a datagram socket in
`NOTIFY_SOCKET` and wait for `READY=1` (systemd's sd_notify protocol). Without one nothing happens.
"""

from __future__ import annotations

import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(state: str) -> None:
    """Send one state; a service manager that cannot be reached is no reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(address)
            sender.sendall(state.encode())
        except OSError:
            return
