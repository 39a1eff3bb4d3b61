"""The cluster of the story: one datastore and one kube-apiserver for all of its chapters.

Chapters run in the order of their file names, and tests in the order written: expiry and compaction
take their time, so a later test looks at what an earlier one left behind.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.certs import write_certs
from conformance.kubernetes.apiserver import ApiServer
from conformance.kubernetes.client import ApiClient
from conformance.kubernetes.kubectl import Kubectl
from conformance.kubernetes.objects import namespace_object
from conformance.servers import BUILD_DIR, Datastore, Kind

KEPT_LOGS = BUILD_DIR / "kubernetes-story"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything a test may touch."""

    datastore: Datastore
    apiserver: ApiServer
    kubectl: Kubectl
    ready_seconds: float


@pytest.fixture(scope="package")
def cluster(datastore_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A fresh datastore with an unmodified kube-apiserver on it, over mutual TLS, ready."""
    directory = tmp_path_factory.mktemp("chapters-1-to-3", numbered=False)
    certs = write_certs(directory / "etcd-certs")
    datastore = Datastore(datastore_kind, directory / "datastore", tls=certs)
    apiserver = ApiServer(datastore, directory)
    with datastore:
        try:
            ready_seconds = apiserver.start()
            kubectl = Kubectl(apiserver.kubeconfig, directory)
            yield Cluster(datastore, apiserver, kubectl, ready_seconds)
        finally:
            apiserver.stop()
            keep_logs(directory)


@pytest.fixture
def api(cluster: Cluster) -> Iterator[ApiClient]:
    """A connection to the API server for one test."""
    with cluster.apiserver.client() as client:
        yield client


@pytest.fixture
def make_namespace(api: ApiClient) -> Callable[[str], str]:
    """Makes a namespace for one test; it stays, as nothing here finalizes namespaces."""

    def make(name: str) -> str:
        api.create("/api/v1/namespaces", namespace_object(name))
        return name

    return make


def keep_logs(directory: Path) -> None:
    """Copies every log below to where a person looks first; the last run's logs are replaced."""
    for log in directory.rglob("*.log"):
        kept = KEPT_LOGS / directory.name / log.relative_to(directory)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, kept)
