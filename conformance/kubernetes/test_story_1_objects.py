"""Chapter one: a person with kubectl makes, reads, changes and deletes objects of many kinds."""

import json
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator

import pytest

from conformance.kubernetes.apiserver import EVENT_TTL_SECONDS, VERSION
from conformance.kubernetes.client import ApiClient, ApiError, Object, WatchRecorder
from conformance.kubernetes.conftest import Cluster
from conformance.kubernetes.kubectl import KubectlError
from conformance.kubernetes.objects import (
    WIDGET_GROUP,
    config_map,
    config_maps,
    deployment,
    event,
    lease,
    list_of,
    namespace_object,
    namespaced,
    widget,
    widget_definition,
)

CONFIG_MAPS = 500
EVENTS_PATH = namespaced("events", "events")
EVENT_NAMES = [f"event-{number:02}" for number in range(30)]


def test_apiserver_becomes_ready(cluster: Cluster) -> None:
    checks = cluster.kubectl.run("get", "--raw", "/readyz?verbose")
    version = cluster.kubectl.json("version")["serverVersion"]["gitVersion"]

    print(f"ready after {cluster.ready_seconds:.1f} s")
    assert "[+]etcd ok" in checks
    assert "[+]etcd-readiness ok" in checks
    assert version == VERSION


def test_apiserver_has_stored_what_it_needs_itself(cluster: Cluster) -> None:
    namespaces = cluster.kubectl.names("namespaces")

    assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= set(namespaces)
    assert len(cluster.kubectl.names("clusterroles")) > 50
    assert "kubernetes" in cluster.kubectl.names("services", "-n", "default")
    # Keys with a TTL of seconds, renewed as long as the API server lives.
    keys = cluster.datastore.etcdctl("get", "--prefix", "--keys-only", "/registry/masterleases/")
    assert "192.0.2.1" in keys.stdout


@pytest.fixture(scope="module")
def event_watch(cluster: Cluster) -> Iterator[WatchRecorder]:
    """A watch of one namespace's Events from before the first to after the last.

    The API server does not cache Events: each such watch is one on the datastore.
    """
    with cluster.apiserver.client() as client:
        client.create("/api/v1/namespaces", namespace_object("events"))
        version = client.get(EVENTS_PATH)["metadata"]["resourceVersion"]
    query: dict[str, object] = {"resourceVersion": version}
    with WatchRecorder(cluster.apiserver.client(), EVENTS_PATH, query) as watch:
        yield watch


def test_events_are_stored_under_few_leases(
    cluster: Cluster, api: ApiClient, event_watch: WatchRecorder
) -> None:
    for name in EVENT_NAMES:
        api.create(EVENTS_PATH, event("events", name, "it happened"))

    assert cluster.kubectl.names("events", "-n", "events") == EVENT_NAMES
    assert event_watch.wait_for(lambda seen: len(seen) == len(EVENT_NAMES), timeout_seconds=5)
    leases = leases_of(cluster, "/registry/events/events/")
    assert sum(len(keys) for keys in leases.values()) == len(EVENT_NAMES)
    assert len(leases) < len(EVENT_NAMES)


def test_namespaces(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    kubectl.run("create", "namespace", "short-lived")
    kubectl.run("label", "namespace", "short-lived", "story=one")
    assert kubectl.names("namespaces", "-l", "story=one") == ["short-lived"]

    # Emptying a namespace is a controller's work; the story does the controller's last call.
    kubectl.run("delete", "namespace", "short-lived", "--wait=false")
    terminating = kubectl.json("get", "namespace", "short-lived")
    assert terminating["status"]["phase"] == "Terminating"
    terminating["spec"]["finalizers"] = []
    finalize = "/api/v1/namespaces/short-lived/finalize"
    kubectl.run("replace", "--raw", finalize, "-f", "-", stdin=terminating)

    with pytest.raises(KubectlError, match="NotFound"):
        kubectl.run("get", "namespace", "short-lived")


def test_500_config_maps(cluster: Cluster, make_namespace: Callable[[str], str]) -> None:
    namespace = make_namespace("many")
    names = [f"map-{number:03}" for number in range(CONFIG_MAPS)]
    manifest = list_of([config_map(name, {"name": name}, kind="bulk") for name in names])

    cluster.kubectl.run("create", "-n", namespace, "-f", "-", stdin=manifest)

    assert cluster.kubectl.names("configmaps", "-n", namespace, "-l", "kind=bulk") == names
    # The client that kubectl replaces: what the API server stored is what the datastore has.
    count = cluster.datastore.etcdctl(
        "get", "--prefix", f"/registry/configmaps/{namespace}/", "--count-only", "-w", "fields"
    )
    assert f'"Count" : {CONFIG_MAPS}' in count.stdout


def test_chunked_lists(cluster: Cluster, api: ApiClient) -> None:
    path = config_maps("many")
    names = cluster.kubectl.names("configmaps", "-n", "many")
    assert len(names) == CONFIG_MAPS

    assert cluster.kubectl.names("configmaps", "-n", "many", "--chunk-size=37") == names

    # Pages are of one revision: writes between them do not show.
    page = api.get(path, limit=100)
    first_version = page["metadata"]["resourceVersion"]
    paged = [item["metadata"]["name"] for item in page["items"]]
    api.delete(f"{path}/map-250")
    api.create(path, config_map("map-250-again"))
    while token := page["metadata"].get("continue"):
        assert page["metadata"]["remainingItemCount"] == CONFIG_MAPS - len(paged)
        page = api.get(path, limit=100, **{"continue": token})
        assert page["metadata"]["resourceVersion"] == first_version
        paged += [item["metadata"]["name"] for item in page["items"]]
    assert paged == names
    assert "map-250-again" in cluster.kubectl.names("configmaps", "-n", "many")


def test_delete_collection(cluster: Cluster, api: ApiClient) -> None:
    path = config_maps("many")
    before = api.get(path)
    bulk = {item["metadata"]["name"] for item in before["items"]}
    start = {"resourceVersion": before["metadata"]["resourceVersion"]}
    with WatchRecorder(cluster.apiserver.client(), path, start) as watch:
        api.delete(path)

        assert cluster.kubectl.names("configmaps", "-n", "many") == []
        assert watch.wait_for(lambda events: len(events) >= len(bulk), timeout_seconds=10)
    assert {found.kind for found in watch.events} == {"DELETED"}
    assert sorted(found.name for found in watch.events) == sorted(bulk)


def test_custom_resources(cluster: Cluster, make_namespace: Callable[[str], str]) -> None:
    kubectl, namespace = cluster.kubectl, make_namespace("custom")
    definition = f"crd/widgets.{WIDGET_GROUP}"
    kubectl.run("create", "-f", "-", stdin=widget_definition())
    kubectl.run("wait", "--for=condition=Established", "--timeout=30s", definition)

    manifest = list_of([widget(f"widget-{number:02}", number + 1) for number in range(20)])
    kubectl.run("create", "-n", namespace, "-f", "-", stdin=manifest)
    patch = json.dumps({"spec": {"size": 77}})
    kubectl.run("patch", "widget", "widget-03", "-n", namespace, "--type=merge", "-p", patch)
    with pytest.raises(KubectlError, match="less than or equal to 100"):
        kubectl.run("create", "-n", namespace, "-f", "-", stdin=widget("too-big", 101))

    stored = kubectl.json("get", "widgets", "-n", namespace)["items"]
    sizes = {item["metadata"]["name"]: item["spec"]["size"] for item in stored}
    assert sizes == {f"widget-{n:02}": 77 if n == 3 else n + 1 for n in range(20)}

    # The API server itself empties the collection before the definition goes.
    kubectl.run("delete", definition, "--timeout=30s")
    left = cluster.datastore.etcdctl("get", "--prefix", "--keys-only", f"/registry/{WIDGET_GROUP}")
    assert left.stdout.strip() == ""


def test_server_side_apply(cluster: Cluster, make_namespace: Callable[[str], str]) -> None:
    kubectl, namespace = cluster.kubectl, make_namespace("applied")

    def apply(manager: str, data: dict[str, str], *flags: str) -> Object:
        command = ("apply", "--server-side", f"--field-manager={manager}", "-n", namespace)
        return kubectl.json(*command, *flags, "-f", "-", stdin=config_map("shared", data))

    apply("ann", {"a": "1", "both": "ann"})
    with pytest.raises(KubectlError, match="conflict"):
        apply("bob", {"b": "2", "both": "bob"})
    apply("bob", {"b": "2", "both": "bob"}, "--force-conflicts")
    last = apply("ann", {})

    assert last["data"] == {"b": "2", "both": "bob"}
    unchanged = apply("ann", {})
    assert unchanged["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"]


def test_deployment_object(cluster: Cluster, make_namespace: Callable[[str], str]) -> None:
    kubectl, namespace = cluster.kubectl, make_namespace("deployed")
    kubectl.run("create", "-n", namespace, "-f", "-", stdin=deployment("web", 2))

    kubectl.run("scale", "deployment/web", "-n", namespace, "--replicas=5")
    kubectl.run("set", "image", "deployment/web", "-n", namespace, "main=example.invalid/app:2")
    status = json.dumps({"status": {"replicas": 5, "observedGeneration": 3}})
    subresource = ("--subresource=status", "--type=merge", "-p", status)
    kubectl.run("patch", "deployment", "web", "-n", namespace, *subresource)

    stored = kubectl.json("get", "deployment", "web", "-n", namespace)
    assert stored["spec"]["replicas"] == 5
    assert stored["spec"]["template"]["spec"]["containers"][0]["image"].endswith("app:2")
    assert stored["status"]["replicas"] == 5
    assert stored["metadata"]["generation"] == 3
    kubectl.run("delete", "deployment", "web", "-n", namespace, "--cascade=background")
    assert kubectl.names("deployments", "-n", namespace) == []


def test_coordination_leases(
    cluster: Cluster, api: ApiClient, make_namespace: Callable[[str], str]
) -> None:
    namespace = make_namespace("elected")
    path = namespaced(namespace, "leases", "coordination.k8s.io/v1")
    api.create(path, lease("leader", "nobody"))
    wins: list[int] = []

    def campaign(number: int) -> None:
        """Takes the lease over 20 times by compare-and-swap, as candidates do."""
        with cluster.apiserver.client() as client:
            while wins.count(number) < 20:
                seen = client.get(f"{path}/leader")
                seen["spec"]["holderIdentity"] = f"candidate-{number}"
                seen["spec"]["leaseTransitions"] += 1
                try:
                    client.replace(f"{path}/leader", seen)
                except ApiError as failure:
                    if failure.reason != "Conflict":
                        raise
                else:
                    wins.append(number)

    threads = [threading.Thread(target=campaign, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    # One lost update would leave the count short.
    assert len(wins) == 80
    final = cluster.kubectl.json("get", "lease", "leader", "-n", namespace)
    assert final["spec"]["leaseTransitions"] == 80
    assert final["spec"]["holderIdentity"] == f"candidate-{wins[-1]}"


def test_events_expire(cluster: Cluster, event_watch: WatchRecorder) -> None:
    expired = len(EVENT_NAMES) * 2
    assert event_watch.wait_for(lambda seen: len(seen) == expired, EVENT_TTL_SECONDS + 10)

    deleted = event_watch.events[len(EVENT_NAMES) :]
    assert {found.kind for found in deleted} == {"DELETED"}
    assert sorted(found.name for found in deleted) == EVENT_NAMES
    # What the watcher is told of the deleted object is the datastore's prev_kv.
    assert {found.object["message"] for found in deleted} == {"it happened"}
    assert cluster.kubectl.names("events", "-n", "events") == []
    assert leases_of(cluster, "/registry/events/events/") == {}


def leases_of(cluster: Cluster, prefix: str) -> dict[str, list[str]]:
    """The datastore's leases that keys below a prefix hang on, with those keys."""
    listed = cluster.datastore.etcdctl_json("lease", "list").get("leases", [])
    found: dict[str, list[str]] = {}
    for lease_id in (f"{entry['id']:x}" for entry in listed):
        shown = cluster.datastore.etcdctl_json("lease", "timetolive", "--keys", lease_id)
        keys = [b64decode(key).decode() for key in shown.get("keys") or []]
        if below := [key for key in keys if key.startswith(prefix)]:
            found[lease_id] = below
    return found
