"""SIGKILL at random moments: nothing acknowledged is lost, no revision moves or appears twice.

SIGKILL leaves the page cache, so this is about the order of append, apply and reply, and about
recovery; what fsync is for is shown in `tests/powercut`.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path

import grpc
import pytest

from tests.crash.ledger import Ledger, Ops, send
from tests.support.datastore import Datastore, Kind
from tests.support.grpc_client import EtcdClient
from tests.support.ports import free_ports

KILLS = 50
WRITERS = 6


class Writer(threading.Thread):
    """Writes one thing after the other, never the same twice, until the server is gone."""

    def __init__(self, name: str, target: str, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(name=name, daemon=True)
        self.target = target
        self.ledger = ledger
        self.rng = rng
        self.deletable: list[bytes] = []
        self.last_revision = 0

    def run(self) -> None:
        client = EtcdClient(self.target)
        try:
            number = 0
            while True:
                ops = self.some_ops(number)
                self.ledger.sent(ops)
                revision = send(client, ops)
                self.ledger.answered(ops, revision)
                assert revision > self.last_revision
                self.last_revision = revision
                self.deletable += [key for key, value in ops if value is not None]
                number += 1
        except grpc.RpcError:
            pass
        finally:
            client.close()

    def some_ops(self, number: int) -> Ops:
        key = f"{self.name}/{number}".encode()
        value = key + b"." * self.rng.choice([0, 100, 3_000])
        choice = self.rng.random()
        if choice < 0.1 and self.deletable:
            return ((self.deletable.pop(), None),)
        if choice < 0.3:
            return ((key + b"/a", value), (key + b"/b", value))
        return ((key, value),)


def kill(store: Datastore) -> None:
    """SIGKILL, and wait until it is gone."""
    assert store.process is not None
    store.process.kill()
    store.process.wait()
    store.process = None


def kill_while_starting(store: Datastore, seconds: float) -> None:
    """SIGKILL before, in, or just after recovery."""
    with store.log.open("ab") as log:
        store.process = subprocess.Popen(store.command(), stdout=log, stderr=log)
    time.sleep(seconds)
    kill(store)


def write_until_killed(
    store: Datastore, ledger: Ledger, rng: random.Random, turn: int, seconds: float
) -> list[Writer]:
    """Several writers; SIGKILL in the midst of them."""
    writers = [
        Writer(f"{turn}-{number}", store.target, ledger, random.Random(rng.random()))
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    kill(store)
    for writer in writers:
        writer.join(20)
        assert not writer.is_alive()
    return writers


@pytest.mark.timeout(400)
def test_nothing_acknowledged_is_lost(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seed = int(os.environ.get("KVSHIM_CRASH_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    print(f"KVSHIM_CRASH_SEED={seed}")
    rng = random.Random(seed)
    ledger = Ledger()
    store = Datastore(Kind(request.config.getoption("--datastore")), tmp_path)
    store.client_port, store.peer_port, store.metrics_port = free_ports(3)
    try:
        for turn in range(KILLS):
            if turn % 8 == 4:
                kill_while_starting(store, rng.uniform(0.2, 0.8))
            store.start()
            client = EtcdClient(store.target)
            if turn % 10 == 0:
                ledger.check(client)
            client.close()
            write_until_killed(store, ledger, rng, turn, rng.uniform(0.005, 0.25))
        store.start()
        client = EtcdClient(store.target)
        ledger.check(client)
        client.close()
    finally:
        store.stop()
    print(f"{KILLS} kills, {len(ledger.acknowledged)} acknowledged")
    assert len(ledger.acknowledged) > 10 * KILLS
