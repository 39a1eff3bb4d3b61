"""Chapter two: every reader sees the truth, in order, soon, and for as long as it was promised."""

import statistics
import time
from collections.abc import Callable

import pytest

from conformance.kubernetes.apiserver import COMPACTION_INTERVAL_SECONDS
from conformance.kubernetes.client import (
    MERGE_PATCH,
    ApiClient,
    ApiError,
    Object,
    WatchEvent,
    WatchRecorder,
    wait_until,
)
from conformance.kubernetes.conftest import Cluster
from conformance.kubernetes.objects import config_map, config_maps, namespaced, secret

COMPACT_KEY = "compact_rev_key"

# A list that waits in vain for its revision is given up, and served by the datastore, after 3 s.
FRESH_LIST_SECONDS_MAX = 1.5
FRESH_LIST_MEDIAN_SECONDS_MAX = 0.4

# The API server looks for a new compact revision every 15 s, and compacts what is an interval old.
COMPACTED_SECONDS_MAX = 2 * COMPACTION_INTERVAL_SECONDS + 15 + 15


@pytest.fixture(scope="module")
def early_page(cluster: Cluster) -> Object:
    """The first page of a list, taken at the start of the chapter to be stale at its end."""
    with cluster.apiserver.client() as client:
        path = config_maps("kube-public")
        for number in range(10):
            client.create(path, config_map(f"early-{number}", {"state": "old"}))
        page = client.get(path, limit=4)
        for number in range(10):
            late = {"data": {"state": "new"}}
            client.patch(f"{path}/early-{number}", late, MERGE_PATCH)
        return page


@pytest.fixture(autouse=True)
def _taken_early(early_page: Object) -> None:
    """Makes the first test of the chapter take the page, whichever test that is."""


def test_lists_at_an_older_revision(api: ApiClient, early_page: Object) -> None:
    path, version = config_maps("kube-public"), early_page["metadata"]["resourceVersion"]

    old = api.get(path, resourceVersion=version, resourceVersionMatch="Exact")
    rest = api.get(path, limit=500, **{"continue": early_page["metadata"]["continue"]})
    now = api.get(path)

    assert old["metadata"]["resourceVersion"] == version
    assert states(early_page) + states(rest) == states(old)
    assert states(old).count(("early-0", "old")) == 1
    assert {state for name, state in states(old) if name.startswith("early-")} == {"old"}
    assert {state for name, state in states(now) if name.startswith("early-")} == {"new"}


def test_kubectl_watch_sees_every_change(
    cluster: Cluster, api: ApiClient, make_namespace: Callable[[str], str]
) -> None:
    namespace = make_namespace("watched")
    path = config_maps(namespace)
    api.create(path, config_map("before"))
    expected: list[tuple[str, str, int]] = []

    def note(kind: str, changed: Object) -> None:
        metadata = changed["metadata"]
        expected.append((kind, metadata["name"], int(metadata["resourceVersion"])))

    with cluster.kubectl.watch("configmaps", "-n", namespace) as watch:
        assert wait_until(lambda: len(watch.events()) == 1, timeout_seconds=15)
        for number in range(100):
            name = f"change-{number}"
            note("ADDED", api.create(path, config_map(name)))
            note("MODIFIED", api.patch(f"{path}/{name}", {"data": {"a": "b"}}, MERGE_PATCH))
            if number % 2:
                api.delete(f"{path}/{name}")
                expected.append(("DELETED", name, 0))

        wait_until(lambda: len(watch.events()) > len(expected), timeout_seconds=10)
        seen = watch.events()

    versions = [found.resource_version for found in seen]
    assert seen[0].name == "before"
    # The answer to a delete does not carry the revision of the delete; the event does.
    assert [in_brief(found) for found in seen[1:]] == expected
    assert versions == sorted(set(versions))


def test_lists_are_fresh_and_come_from_the_cache(
    cluster: Cluster, api: ApiClient, make_namespace: Callable[[str], str]
) -> None:
    """Read your writes, at the speed of the cache, whether the written kind is the listed one.

    A list is at the datastore's revision. When the last write was of another kind, only a progress
    notification tells the cache of the listed kind that it is as fresh as that.
    """
    namespace = make_namespace("fresh")
    path, secrets = config_maps(namespace), namespaced(namespace, "secrets")
    assert wait_until(lambda: consistent_reads(cluster, "true") > 0, timeout_seconds=10)
    before = consistent_reads(cluster, "true")
    seconds: list[float] = []

    for number in range(40):
        name = f"fresh-{number}"
        written = api.create(secrets, secret(name, "x"))
        written = api.create(path, config_map(name)) if number % 2 else written
        started = time.monotonic()
        listed = api.get(path)
        seconds.append(time.monotonic() - started)
        listed_at = int(listed["metadata"]["resourceVersion"])
        assert listed_at >= int(written["metadata"]["resourceVersion"])
        assert len(listed["items"]) == (number + 1) // 2

    print(f"list after write: median {statistics.median(seconds):.3f} s, max {max(seconds):.3f} s")
    assert max(seconds) < FRESH_LIST_SECONDS_MAX
    assert statistics.median(seconds) < FRESH_LIST_MEDIAN_SECONDS_MAX
    assert consistent_reads(cluster, "true") >= before + len(seconds)


def test_no_consistent_read_ever_fell_back(cluster: Cluster) -> None:
    samples = cluster.apiserver.samples("apiserver_watch_cache_consistent_read_total")

    assert sum(sample.value for sample in samples) > 0
    fell_back = [s for s in samples if s.labels["fallback"] != "false" and s.value]
    failed = [s for s in samples if s.labels["success"] != "true" and s.value]
    assert fell_back == []
    assert failed == []


def test_caches_were_filled_by_range_streams(cluster: Cluster) -> None:
    metric = "apiserver_storage_list_duration_seconds_count"

    assert cluster.apiserver.metric_sum(metric, streamed="true") > 0
    assert "does not support RangeStream" not in cluster.apiserver.log_path.read_text()


def test_apiserver_compacts(cluster: Cluster, api: ApiClient, early_page: Object) -> None:
    early = int(early_page["metadata"]["resourceVersion"])

    def compacted_to() -> int:
        shown = cluster.datastore.etcdctl("get", COMPACT_KEY, "--print-value-only").stdout
        return int(shown.strip() or 0)

    first = compacted_to()
    assert wait_until(lambda: compacted_to() > max(first, early), COMPACTED_SECONDS_MAX, every=0.5)

    # Compact first writes the key, then compacts: give the second step its moment.
    def read_at(revision: int) -> str:
        return cluster.datastore.etcdctl(
            "get", COMPACT_KEY, f"--rev={revision}", check=False
        ).stderr

    refusal = "required revision has been compacted"
    assert wait_until(lambda: refusal in read_at(early), timeout_seconds=5)
    assert read_at(cluster.datastore.revision()) == ""


def test_compacted_revisions_are_gone_for_clients(api: ApiClient, early_page: Object) -> None:
    path, version = config_maps("kube-public"), early_page["metadata"]["resourceVersion"]

    def expired() -> bool:
        try:
            api.get(path, resourceVersion=version, resourceVersionMatch="Exact")
        except ApiError as failure:
            return (failure.code, failure.reason) == (410, "Expired")
        return False

    assert wait_until(expired, COMPACTED_SECONDS_MAX, every=0.5)
    with pytest.raises(ApiError) as failed:
        api.get(path, limit=4, **{"continue": early_page["metadata"]["continue"]})
    assert failed.value.code == 410
    # The refusal brings a token that goes on from the same key at the present revision.
    token = failed.value.status["metadata"]["continue"]
    rest = api.get(path, limit=500, **{"continue": token})
    assert int(rest["metadata"]["resourceVersion"]) > int(version)
    assert states(rest) == states(api.get(path))[4:]
    assert ("early-9", "new") in states(rest)


def test_watches_from_a_compacted_revision_are_refused(
    cluster: Cluster, early_page: Object
) -> None:
    # The API server does not cache Events: this is the datastore's own cancellation.
    start: dict[str, object] = {"resourceVersion": early_page["metadata"]["resourceVersion"]}
    path = namespaced("default", "events")
    with WatchRecorder(cluster.apiserver.client(), path, start) as watch:
        assert watch.wait_for(bool, timeout_seconds=10), watch.ended

    refused = watch.events[0]
    assert refused.kind == "ERROR"
    assert (refused.object["code"], refused.object["reason"]) == (410, "Expired")


def test_no_request_failed_that_should_not(cluster: Cluster) -> None:
    failed = [s for s in cluster.apiserver.samples("etcd_request_errors_total") if s.value]

    # Lists at compacted revisions are refused by the datastore, as this chapter wants.
    assert {s.labels["operation"] for s in failed} <= {"list", "listStream"}, failed


def states(listed: Object) -> list[tuple[str, str]]:
    """Name and state of each item, in order."""
    return [
        (item["metadata"]["name"], item.get("data", {}).get("state", ""))
        for item in listed["items"]
    ]


def in_brief(event: WatchEvent) -> tuple[str, str, int]:
    """What a writer can know of an event beforehand."""
    return (event.kind, event.name, 0 if event.kind == "DELETED" else event.resource_version)


def consistent_reads(cluster: Cluster, success: str) -> float:
    """Consistent lists of ConfigMaps that the API server's cache has served."""
    return cluster.apiserver.metric_sum(
        "apiserver_watch_cache_consistent_read_total",
        resource="configmaps",
        success=success,
        fallback="false",
    )
