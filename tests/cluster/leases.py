"""Leases that a client keeps alive through whatever happens to a cluster, each with a key.

A thread of its own renews all of them at one member after another.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence

import grpc

from tests.cluster.clients import client
from tests.support.grpc_client import EtcdClient

RENEW_SECONDS = 0.6
JOIN_SECONDS_MAX = 10.0


def key_of(lease: int) -> bytes:
    """The key that goes when its lease does."""
    return b"/leased/%x" % lease


class Leases:
    """Grants so many leases of `ttl` seconds at once; `stop` before `check`."""

    def __init__(self, targets: Sequence[str], count: int, ttl: int) -> None:
        self._clients = [EtcdClient(target) for target in targets]
        self._renewed_at: dict[int, float] = {}
        self._created: dict[int, int] = {}
        self.renewals = 0
        self.errors: list[str] = []
        self.longest_pause = 0.0
        """Seconds from asking for one renewal to the answer of the next, at most."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._thread.start()
        for _ in range(count):
            asked = time.monotonic()
            lease = self._clients[0].grant(ttl).ID
            self._renewed_at[lease] = asked
            put = self._clients[0].put(key_of(lease), lease=lease)
            self._created[lease] = put.header.revision

    def stop(self) -> None:
        """Renew no further."""
        self._stop.set()
        self._thread.join(JOIN_SECONDS_MAX)
        assert not self._thread.is_alive(), "a renewal hangs"
        for each in self._clients:
            each.close()

    def check(self, target: str) -> None:
        """Every renewal was answered with the full time, and no key was ever gone."""
        assert not self.errors, self.errors
        with client(target) as etcd:
            for lease, revision in self._created.items():
                found = etcd.range(key_of(lease)).kvs
                assert [(kv.lease, kv.create_revision) for kv in found] == [(lease, revision)]

    def _run(self) -> None:
        for etcd in itertools.cycle(self._clients):
            if self._stop.wait(RENEW_SECONDS):
                return
            asked, leases = time.monotonic(), list(self._renewed_at)
            try:
                answers = etcd.keep_alive(*leases)
            except grpc.RpcError as error:
                self.errors.append(f"{error.code().name}: {error.details()}")
                continue
            for answer in answers:
                pause = time.monotonic() - self._renewed_at[answer.ID]
                self.longest_pause = max(self.longest_pause, pause)
                self._renewed_at[answer.ID] = asked
                self.renewals += 1
                if answer.TTL <= 0:
                    self.errors.append(f"lease {answer.ID:x} is lost after {pause:.1f} s")
