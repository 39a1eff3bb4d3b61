"""Chapter six: two of three nodes are lost for good, and the cluster goes on from the third.

The API server, given all three endpoints, is not restarted. On kvshim only: etcd has no such
command.
"""

import subprocess
from pathlib import Path

import pytest

from conformance.kubernetes.apiserver import ApiServer, Endpoints
from conformance.kubernetes.client import ApiError, WatchRecorder, wait_until
from conformance.kubernetes.conftest import keep_logs
from conformance.kubernetes.objects import config_map, config_maps, namespace_object
from tests.cluster.cluster import Cluster
from tests.support.program import KVSHIM

NAMESPACE = "recovered"
OBJECTS = 30
SKIPPED = 1_000_000_000
SECONDS_MAX = 60.0


def recover(data_dir: Path) -> None:
    command = [str(KVSHIM), "recover", "--from-this-node", "--yes"]
    done = subprocess.run(
        [*command, "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_api_server_goes_on_behind_a_recovery(tmp_path: Path) -> None:
    with Cluster(3, tmp_path / "nodes", "--watch-progress-notify-interval=5s") as cluster:
        cluster.start()
        urls = ",".join(member.client_url for member in cluster.members)
        apiserver = ApiServer(Endpoints(urls), tmp_path)
        try:
            apiserver.start()
            story(cluster, apiserver)
        finally:
            apiserver.stop()
            keep_logs(tmp_path)


def story(cluster: Cluster, apiserver: ApiServer) -> None:
    path = config_maps(NAMESPACE)
    with apiserver.client() as api:
        api.create("/api/v1/namespaces", namespace_object(NAMESPACE))
        made = {
            name: int(api.create(path, config_map(name))["metadata"]["resourceVersion"])
            for name in (f"before-{number}" for number in range(OBJECTS))
        }
        old = int(api.get(path)["metadata"]["resourceVersion"])
        pid = apiserver.pid
        start: dict[str, object] = {"resourceVersion": str(old)}
        with WatchRecorder(apiserver.client(), path, start) as watch:
            survivor = cluster.wait_leader()
            for member in cluster.members:
                member.kill()
            recover(survivor.data_dir)
            cluster.members = [survivor]
            cluster.restart(survivor)
            cluster.wait_leader()
            apiserver.wait_ready(SECONDS_MAX)
            assert wait_until(lambda: written(apiserver, path, "after"), SECONDS_MAX)

            # What was there is there, as it was, and can be changed by who knows it from before.
            assert wait_until(lambda: initialized(apiserver, path), SECONDS_MAX)
            listed = api.get(path)
            now = int(listed["metadata"]["resourceVersion"])
            stored = {
                item["metadata"]["name"]: int(item["metadata"]["resourceVersion"])
                for item in listed["items"]
            }
            assert made.items() <= stored.items()
            assert now > old + SKIPPED - OBJECTS
            assert stored["after"] > old
            known = next(i for i in listed["items"] if i["metadata"]["name"] == "before-1")
            changed = api.replace(path + "/before-1", {**known, "data": {"changed": "yes"}})
            assert int(changed["metadata"]["resourceVersion"]) > now

            # An informer's watch goes on, or is told to list anew; never is anything left out.
            assert watch.wait_for(lambda _: bool(watch.ended), SECONDS_MAX) or went_on(watch)
            print(f"the watch of before: {watch.ended or 'went on'}, {len(watch.events)} events")
        late = WatchRecorder(apiserver.client(), path, {"resourceVersion": str(now)})
        with late:
            assert late.wait_for(lambda seen: any(e.name == "before-1" for e in seen), SECONDS_MAX)
        with pytest.raises(ApiError) as refused:
            watch_once(apiserver, path, old)
        assert refused.value.code == 410
    assert (apiserver.running, apiserver.pid) == (True, pid)
    assert apiserver.metric_sum("apiserver_storage_decode_errors_total") == 0


def went_on(watch: WatchRecorder) -> bool:
    return {"after", "before-1"} <= {event.name for event in watch.events}


def watch_once(apiserver: ApiServer, path: str, version: int) -> None:
    """Raises what the API server answers to a watch from there, in the stream or at once."""
    recorder = WatchRecorder(apiserver.client(), path, {"resourceVersion": str(version)})
    with recorder:
        assert recorder.wait_for(bool, SECONDS_MAX)
        first = recorder.events[0]
        assert first.kind == "ERROR", first
        raise ApiError(int(first.object["code"]), b"{}")


def initialized(apiserver: ApiServer, path: str) -> bool:
    """The cache lists anew behind the compaction; until it has, clients are told to try again."""
    try:
        with apiserver.client() as api:
            return bool(api.get(path)["items"])
    except ApiError as failure:
        if failure.code != 429:
            raise
        return False


def written(apiserver: ApiServer, path: str, name: str) -> bool:
    try:
        with apiserver.client() as api:
            api.create(path, config_map(name))
    except (ApiError, OSError) as failure:
        return isinstance(failure, ApiError) and failure.reason == "AlreadyExists"
    return True
