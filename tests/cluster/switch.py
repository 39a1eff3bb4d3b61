"""A network switch in a process: members' packets in at one TUN device, out at another, or not.

Run as a program with the number of a control socket. A packet there joins a member, its device
attached as a file descriptor, or sets the rules, each answered when it holds. What a rule loses is
lost, and what it cuts is gone: the kernels at both ends see to the rest, as they do on a wire.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import socket
import sys
import time
from contextlib import suppress

from tests.cluster.links import CLEAN, Rule, Way

PACKET_BYTES_MAX = 65_536
HELD_PACKETS_MAX = 20_000
"""As a wire, it drops what it cannot hold."""

PACKETS_IN_A_TURN = 32

DESTINATION = slice(16, 20)
"""Of an IPv4 packet."""


class Switch:
    """Owns the devices; one thread, until the control socket closes."""

    def __init__(self, control: socket.socket, seed: int) -> None:
        self._control = control
        self._random = random.Random(seed)
        self._names: dict[int, str] = {}
        self._devices: dict[bytes, int] = {}
        self._rules: dict[Way, Rule] = {}
        self._held: list[tuple[float, int, int, bytes]] = []
        self._sequence = 0
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Forward until whoever started this is gone."""
        while True:
            for device, _ in self._poll.poll(self._wait_seconds()):
                if device != self._control.fileno():
                    self._take(device)
                elif not self._obey():
                    return
            self._let_go()

    def _wait_seconds(self) -> float | None:
        return max(self._held[0][0] - time.monotonic(), 0.0) if self._held else None

    def _obey(self) -> bool:
        command, devices, _, _ = socket.recv_fds(self._control, PACKET_BYTES_MAX, 1)
        if not command:
            return False
        told = json.loads(command)
        if devices:
            (device,) = devices
            os.set_blocking(device, False)
            self._names[device] = told["name"]
            self._devices[socket.inet_aton(told["address"])] = device
            self._poll.register(device, select.EPOLLIN)
        else:
            self._rules = {(a, b): Rule(*rule) for a, b, rule in told["rules"]}
        self._control.send(b"done")
        return True

    def _take(self, device: int) -> None:
        """A few of the packets that wait: the others' turn comes again."""
        with suppress(BlockingIOError):
            for _ in range(PACKETS_IN_A_TURN):
                self._forward(device, os.read(device, PACKET_BYTES_MAX))

    def _forward(self, device: int, packet: bytes) -> None:
        to = self._devices.get(packet[DESTINATION])
        if to is None:
            return
        rule = self._rules.get((self._names[device], self._names[to]), CLEAN)
        if rule.cut or (rule.loss and self._random.random() < rule.loss):
            return
        if not rule.delay_seconds:
            self._send(to, packet)
        elif len(self._held) < HELD_PACKETS_MAX:
            self._sequence += 1
            due = time.monotonic() + rule.delay_seconds
            heapq.heappush(self._held, (due, self._sequence, to, packet))

    def _let_go(self) -> None:
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            _, _, to, packet = heapq.heappop(self._held)
            self._send(to, packet)

    def _send(self, to: int, packet: bytes) -> None:
        try:
            os.write(to, packet)
        except OSError:
            return  # its queue is full, or the device is down: dropped, as on a wire


if __name__ == "__main__":
    Switch(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])).run()
