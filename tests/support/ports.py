"""Loopback ports for servers that tests start, kept from every other test of the machine.

A port is kept by a socket that is bound and never listens. Servers, which all set SO_REUSEADDR, may
bind it nonetheless; the plain bind by which a port is looked for may not, in whichever process.
"""

import random
import socket
from collections import deque

RANGE = range(12_000, 32_000)
"""Below the ports that the kernel gives to outgoing connections."""

KEPT_MAX = 300
"""How many ports a process keeps; a test that asks for that many more is long over."""

_kept: deque[socket.socket] = deque()


def free_ports(count: int) -> list[int]:
    """Distinct ports that nobody listens on and nobody else is given.

    Raises OSError if there are not so many.
    """
    ports: list[int] = []
    for port in random.sample(RANGE, len(RANGE)):
        if len(ports) == count:
            return ports
        if _keep(port):
            ports.append(port)
    raise OSError(f"no {count} ports of {RANGE} are free")


def _keep(port: int) -> bool:
    keeper = socket.socket()
    try:
        keeper.bind(("127.0.0.1", port))
    except OSError:
        keeper.close()
        return False
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _kept.append(keeper)
    if len(_kept) > KEPT_MAX:
        _kept.popleft().close()
    return True
