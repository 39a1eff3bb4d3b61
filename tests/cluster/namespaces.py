"""The network between members that each have a network namespace of their own.

Every namespace holds one TUN device whose other end is with the switch (`tests.cluster.switch`), as
is the test's own: members have addresses instead of ports, and cuts, delays and losses happen to
packets. Nothing but iproute2, /dev/net/tun and root is needed; `permitted` tells. Same use as
`tests.cluster.links`, which stands in for it on loopback.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.cluster.links import Rule, Way
from tests.support.datastore import REPOSITORY

TUN = Path("/dev/net/tun")
TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_HEADER = 0x1001
MTU = 9_000
"""Large, since every packet passes through Python."""

OUTSIDE = "outside"
"""The name of the test's own end, and so of its clients."""

COMMAND_SECONDS_MAX = 10.0


def ip(*arguments: str) -> None:
    """Run iproute2's `ip`. Raises CalledProcessError."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=COMMAND_SECONDS_MAX)


def permitted() -> bool:
    """May this process make namespaces and devices?"""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip") or not TUN.exists():
        return False
    probe = f"kvshim-{os.getpid()}-probe"
    try:
        ip("netns", "add", probe)
        try:
            os.close(_device()[0])
        finally:
            ip("netns", "delete", probe)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _device() -> tuple[int, str]:
    """A new TUN device: the switch's end, and the name of the other."""
    end = os.open(TUN, os.O_RDWR)
    try:
        request = struct.pack("16sH22x", b"kvshim%d", IFF_TUN_WITHOUT_HEADER)
        name = fcntl.ioctl(end, TUNSETIFF, request)[:16].rstrip(b"\0").decode()
    except OSError:
        os.close(end)
        raise
    return end, name


class Namespaces:
    """All namespaces of a cluster, and its switch; `close` ends and removes them."""

    def __init__(self, seed: int) -> None:
        self._subnet = f"10.{random.randrange(64, 128)}.{random.randrange(256)}"
        self._rules: dict[Way, Rule] = {}
        self._spaces: list[str] = []
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(COMMAND_SECONDS_MAX)
        with theirs:
            number = theirs.fileno()
            self._switch = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.switch", str(number), str(seed)],
                pass_fds=[number],
                cwd=REPOSITORY,
            )
        try:
            self._join(OUTSIDE, 254, None)
        except BaseException:
            self.close()
            raise

    def open(self, name: str) -> tuple[str, Sequence[str]]:
        """A namespace for the member `name`: its address, and what runs a command inside."""
        space = f"kvshim-{os.getpid()}-{self._subnet}-{name}"
        ip("netns", "add", space)
        self._spaces.append(space)
        ip("-n", space, "link", "set", "lo", "up")
        address = self._join(name, len(self._spaces), space)
        return address, ("ip", "netns", "exec", space)

    def set(self, ways: Iterable[Way], rule: Rule) -> None:
        """Give these ways a rule; returns once it holds."""
        self._rules.update(dict.fromkeys(ways, rule))
        self._tell_rules()

    def heal(self) -> None:
        """All ways are clean again."""
        self._rules.clear()
        self._tell_rules()

    def close(self) -> None:
        """Members that run here must have ended."""
        self._control.close()
        try:
            self._switch.wait(COMMAND_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._switch.kill()
            self._switch.wait()
        for space in self._spaces:
            ip("netns", "delete", space)

    def _join(self, name: str, number: int, space: str | None) -> str:
        end, device = _device()
        address = f"{self._subnet}.{number}"
        try:
            inside: tuple[str, ...] = ()
            if space is not None:
                ip("link", "set", device, "netns", space)
                inside = ("-n", space)
            ip(*inside, "address", "add", f"{address}/24", "dev", device)
            ip(*inside, "link", "set", device, "mtu", str(MTU), "up")
            self._tell({"name": name, "address": address}, end)
        finally:
            os.close(end)
        return address

    def _tell_rules(self) -> None:
        rules = [
            (a, b, (rule.cut, rule.delay_seconds, rule.loss))
            for (a, b), rule in self._rules.items()
        ]
        self._tell({"rules": rules})

    def _tell(self, command: object, *devices: int) -> None:
        socket.send_fds(self._control, [json.dumps(command).encode()], devices)
        if self._control.recv(16) != b"done":
            raise RuntimeError("the switch has ended")
