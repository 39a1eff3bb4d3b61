"""Chapter seven: a cluster's data moves from etcd to kvshim and back, as docs/migrating.md says.

The API server is stopped, its datastore replaced, and it finds every object as it was. On kvshim
only, since both programs play.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.kubernetes.apiserver import ApiServer
from conformance.kubernetes.client import ApiClient, ApiError, Object, WatchRecorder, wait_until
from conformance.kubernetes.conftest import keep_logs
from conformance.kubernetes.objects import (
    config_map,
    config_maps,
    deployment,
    namespace_object,
    namespaced,
    secret,
)
from conformance.servers import Datastore, Kind
from conformance.snapshots.files import restored, save, status
from conformance.snapshots.test_from_etcd import run_import

NAMESPACE = "moved"
SKIPPED = 1_000_000_000
SECONDS_MAX = 60.0
BY_THE_SERVER_ITSELF = ("leases", "events", "endpoints", "endpointslices")
"""What it writes whenever it runs."""

ITS_CA = "kube-system/extension-apiserver-authentication"
"""A ConfigMap of the certificates that it was started with, which are new each time."""

Objects = dict[tuple[str, str], Object]
"""By path of the list, and namespace and name."""


def test_from_etcd_to_kvshim_and_back(tmp_path: Path) -> None:
    etcd = Datastore(Kind.ETCD, tmp_path / "1-etcd")
    with etcd, serving(etcd) as api:
        make_objects(api)
        had = all_objects(api)
        old = revision(api)
    assert len(had) > 100  # among them what the API server makes for itself
    kvshim = Datastore(Kind.KVSHIM, tmp_path / "2-kvshim")
    with etcd:
        snapshot = save(etcd, tmp_path / "etcd.db")
    run_import(snapshot, f"--data-dir={kvshim.data_dir}")
    with kvshim, serving(kvshim) as api:
        has = settled(api, had)
        assert has == had
        assert revision(api) > old + SKIPPED
        refuse_the_past(api, old)
        write(api, "by-kvshim")
        had = all_objects(api)
        old = revision(api)
        snapshot = save(kvshim, tmp_path / "kvshim.db")
    assert status(snapshot)["version"]
    raised = (f"--bump-revision={SKIPPED}", "--mark-compacted")
    back = restored(snapshot, tmp_path / "3-etcd", raised)
    with back, serving(back) as api:
        has = settled(api, had)
        assert has == had
        refuse_the_past(api, old)
        write(api, "by-etcd")
        assert {"by-kvshim", "by-etcd"} <= {name for _, name in map(named, all_objects(api))}


@pytest.mark.skipif(
    not Kind.KINE.program.exists(), reason="kine is not built: python conformance/build.py kine"
)
@pytest.mark.parametrize("running", [True, False], ids=["from its endpoint", "from its file"])
def test_from_kine_to_kvshim(tmp_path: Path, *, running: bool) -> None:
    kine = Datastore(Kind.KINE, tmp_path / "1-kine")
    kvshim = Datastore(Kind.KVSHIM, tmp_path / "2-kvshim")
    target = f"--data-dir={kvshim.data_dir}"
    with kine:
        with serving(kine) as api:
            make_objects(api)
            had = all_objects(api)
            old = revision(api)
        if running:
            run_import(f"--from-endpoint={kine.client_url}", target)
    if not running:
        run_import(kine.data_dir / "kine.db", target)
    with kvshim, serving(kvshim) as api:
        assert settled(api, had) == had
        assert revision(api) > old + SKIPPED
        write(api, "by-kvshim")


@contextmanager
def serving(datastore: Datastore) -> Iterator[ApiClient]:
    """An API server on a datastore that runs, and a client of it."""
    apiserver = ApiServer(datastore, datastore.directory)
    try:
        apiserver.start()
        with apiserver.client() as api:
            yield api
        assert apiserver.metric_sum("apiserver_storage_decode_errors_total") == 0
    finally:
        apiserver.stop()
        keep_logs(datastore.directory)


def make_objects(api: ApiClient) -> None:
    api.create("/api/v1/namespaces", namespace_object(NAMESPACE))
    for number in range(30):
        api.create(config_maps(NAMESPACE), config_map(f"m{number}", {"n": str(number)}))
    for number in range(0, 30, 3):
        path = f"{config_maps(NAMESPACE)}/m{number}"
        api.replace(path, {**api.get(path), "data": {"n": "changed"}})
    for number in range(1, 30, 3):
        api.delete(f"{config_maps(NAMESPACE)}/m{number}")
    api.create(namespaced(NAMESPACE, "secrets"), secret("hidden", "value"))
    api.create(namespaced(NAMESPACE, "deployments", "apps/v1"), deployment("app", 3))


def write(api: ApiClient, name: str) -> None:
    """A new object, and a change by who knows an old one from before."""
    path = config_maps(NAMESPACE)
    old = api.get(f"{path}/m0")
    made = api.create(path, config_map(name))
    changed = api.replace(f"{path}/m0", {**old, "data": {"n": name}})
    assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert api.get(f"{path}/m0")["metadata"]["uid"] == old["metadata"]["uid"]


def revision(api: ApiClient) -> int:
    return int(api.get(config_maps(NAMESPACE))["metadata"]["resourceVersion"])


def refuse_the_past(api: ApiClient, old: int) -> None:
    """Who watches from before is told to list anew."""
    with WatchRecorder(api, config_maps(NAMESPACE), {"resourceVersion": str(old)}) as watch:
        assert watch.wait_for(bool, SECONDS_MAX)
        assert watch.events[0].kind == "ERROR"
        assert watch.events[0].object["code"] == 410
    api.close()


def settled(api: ApiClient, had: Objects) -> Objects:
    """The objects that were there; a server that has just started may still be reading them."""
    has: Objects = {}

    def equal() -> bool:
        nonlocal has
        try:
            has = {name: found for name, found in all_objects(api).items() if name in had}
        except ApiError as failure:
            if failure.code != 429:
                raise
            return False
        return has == had

    wait_until(equal, 20.0)
    return has


def all_objects(api: ApiClient) -> Objects:
    """Whatever can be listed, with its resourceVersion."""
    groups = [
        version["groupVersion"]
        for group in api.get("/apis")["groups"]
        for version in group["versions"]
    ]
    found: Objects = {}
    for root in ("/api/v1", *(f"/apis/{group}" for group in groups)):
        for resource in api.get(root)["resources"]:
            name = resource["name"]
            if "list" not in resource["verbs"] or name in BY_THE_SERVER_ITSELF:
                continue
            for item in api.get(f"{root}/{name}")["items"]:
                metadata = item["metadata"]
                place = f"{metadata.get('namespace', '')}/{metadata['name']}"
                if place != ITS_CA:
                    found[f"{root}/{name}", place] = item
    return found


def named(key: tuple[str, str]) -> tuple[str, str]:
    return key[0], key[1].rpartition("/")[2]
