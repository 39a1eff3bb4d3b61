"""Two servers, started alike: the one that is right, and the one on trial."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from conformance.differential.client import Client
from conformance.differential.compare import Difference, first_difference
from conformance.differential.run import Run, Transcript
from conformance.differential.steps import Sequence
from conformance.servers import Datastore, Kind
from tests.support.memory import directory_in_memory

PEER_URL = "http://127.0.0.1:2380"
REQUEST_BYTES_MAX = 100_000
RUNS_MAX = 3
ALIKE = (
    f"--initial-advertise-peer-urls={PEER_URL}",
    f"--initial-cluster=m1={PEER_URL}",
    "--advertise-client-urls=http://127.0.0.1:2379",
    "--bcrypt-cost=4",
    f"--max-request-bytes={REQUEST_BYTES_MAX}",
    "--log-level=error",
)
"""Names and URLs make ids: with the same ones they are the same."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a sequence went on both."""

    difference: Difference | None
    requests: int


class Pair:
    """Both servers, empty; `run` leaves them so. Their data is in memory: durability is not what is
    compared, and 200,000 fsyncs would take most of the time."""

    def __init__(self, trial: Kind) -> None:
        self._kinds = (Kind.ETCD, trial)
        self._directory = Path()
        self._stores: list[Datastore] = []
        self._clients: list[Client] = []

    def __enter__(self) -> Pair:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._directory = directory_in_memory("differential-")
        self._stores = [
            Datastore(kind, self._directory / f"{number}-{kind.value}", _flags(kind))
            for number, kind in enumerate(self._kinds)
        ]
        with ThreadPoolExecutor(len(self._stores)) as pool:
            for started in [pool.submit(store.start) for store in self._stores]:
                started.result()
        self._clients = [Client(store) for store in self._stores]

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        for store in self._stores:
            if store.running:
                store.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def restart(self) -> None:
        """Both anew, and empty."""
        self.stop()
        self.start()

    def run(self, steps: Sequence) -> Result:
        """The sequence on both, one after the other; on fresh servers again where etcd was late.

        A client that gives up in the instant its key is made may find etcd not yet waiting for the
        transaction's answer: it picks by luck between that and the cancellation, and the key may
        stay until its lease ends.
        """
        for _ in range(RUNS_MAX):
            expected, answered = (self._run(client, steps) for client in self._clients)
            if not expected.stayed:
                break
            self.restart()
        return Result(first_difference(expected, answered), expected.requests)

    def _run(self, client: Client, steps: Sequence) -> Transcript:
        return Run(client).run(steps)


def _flags(kind: Kind) -> tuple[str, ...]:
    match kind:
        case Kind.ETCD:
            return (*ALIKE, "--unsafe-no-fsync")
        case Kind.KVSHIM:
            return ALIKE
        case Kind.KINE:
            return ()
