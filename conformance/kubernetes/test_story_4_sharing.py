"""Chapter four: as kubeadm sets it up, over mutual TLS, with two API servers on one datastore."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.certs import write_certs
from conformance.kubernetes.apiserver import COMPACTION_INTERVAL_SECONDS, ApiServer
from conformance.kubernetes.client import WatchRecorder, wait_until
from conformance.kubernetes.conftest import keep_logs
from conformance.kubernetes.objects import config_map, config_maps
from conformance.servers import Datastore, Kind

PATH = config_maps("default")

PROGRESS_SECONDS = 3


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("chapter-4", numbered=False)
    yield made
    keep_logs(made)


@pytest.fixture(scope="module")
def tls_datastore(datastore_kind: Kind, directory: Path) -> Iterator[Datastore]:
    """A datastore that refuses whoever shows no certificate of its CA.

    kubeadm also asks for progress notifications every few seconds instead of every ten minutes.
    """
    certs = write_certs(directory / "etcd-certs")
    flags = [f"--watch-progress-notify-interval={PROGRESS_SECONDS}s"]
    with Datastore(datastore_kind, directory / "datastore", flags, tls=certs) as started:
        yield started


@pytest.fixture(scope="module")
def apiservers(tls_datastore: Datastore, directory: Path) -> Iterator[list[ApiServer]]:
    """Two API servers that know nothing of each other but what they store."""
    servers = [ApiServer(tls_datastore, directory / name) for name in ("first", "second")]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


def test_a_client_without_certificate_is_refused(tls_datastore: Datastore) -> None:
    bare = Datastore(tls_datastore.kind, tls_datastore.directory, ports=tls_datastore.ports)
    refused = bare.etcdctl("--command-timeout=2s", "get", "x", check=False)

    assert refused.returncode != 0
    assert tls_datastore.etcdctl("get", "x").stdout == ""


def test_each_sees_at_once_what_the_other_writes(apiservers: list[ApiServer]) -> None:
    first, second = apiservers
    with first.client() as one, second.client() as two:
        start: dict[str, object] = {"resourceVersion": two.get(PATH)["metadata"]["resourceVersion"]}
        with WatchRecorder(second.client(), PATH, start) as watch:
            for number in range(50):
                name = f"shared-{number}"
                stored = one.create(PATH, config_map(name))
                listed = {item["metadata"]["name"] for item in two.get(PATH)["items"]}
                assert name in listed
                assert two.get(f"{PATH}/{name}")["metadata"] == stored["metadata"]
            assert watch.wait_for(lambda seen: len(seen) == 50, timeout_seconds=5)
    assert [found.name for found in watch.events] == [f"shared-{n}" for n in range(50)]


def test_caches_of_quiet_kinds_keep_up(apiservers: list[ApiServer]) -> None:
    """Without an event or a reader, only periodic progress tells a cache how fresh it is."""
    with apiservers[0].client() as client:
        written = client.create(PATH, config_map("elsewhere"))
    goal = int(written["metadata"]["resourceVersion"])

    def quiet_cache_at() -> float:
        metric = "apiserver_watch_cache_resource_version"
        return apiservers[1].metric_sum(metric, group="storage.k8s.io", resource="csidrivers")

    assert wait_until(lambda: quiet_cache_at() >= goal, 2 * PROGRESS_SECONDS + 2, every=0.25)


def test_one_compaction_an_interval_is_done_by_one_of_them(
    apiservers: list[ApiServer], tls_datastore: Datastore
) -> None:
    def compactions() -> int:
        """Each winner writes the key once; the version counts the writes."""
        stored = tls_datastore.etcdctl_json("get", "compact_rev_key").get("kvs")
        return int(stored[0]["version"]) if stored else 0

    def seconds_to_next() -> float:
        before, started = compactions(), time.monotonic()
        patience = 2 * COMPACTION_INTERVAL_SECONDS
        assert wait_until(lambda: compactions() > before, patience, every=0.1)
        return time.monotonic() - started

    seconds_to_next()
    # Both try every interval, seconds apart; the transaction lets one of them win.
    assert seconds_to_next() > COMPACTION_INTERVAL_SECONDS * 0.8
    assert all(server.running for server in apiservers)
