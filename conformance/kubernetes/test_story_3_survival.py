"""Chapter three: the datastore dies under load and comes back; nothing acknowledged is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from conformance.kubernetes.apiserver import ApiServer
from conformance.kubernetes.client import (
    ApiClient,
    ApiError,
    WatchRecorder,
    wait_until,
)
from conformance.kubernetes.conftest import Cluster
from conformance.kubernetes.objects import config_map, config_maps

CRASHES = 3
WRITERS = 4
ACKS_BEFORE_CRASH = 40
DOWN_SECONDS = 1.0
RECOVERED_SECONDS_MAX = 30.0


@dataclass(slots=True)
class Load:
    """Writers that create ConfigMaps without pause and remember what was acknowledged."""

    apiserver: ApiServer
    path: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Writes for as long as the `with` block lasts."""
        threads = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(60)

    def wait_for_more(self, count: int, timeout_seconds: float) -> bool:
        """Whether so many further writes were acknowledged in time."""
        goal = len(self.acknowledged) + count
        return wait_until(lambda: len(self.acknowledged) >= goal, timeout_seconds)

    def _write(self, writer: int) -> None:
        number = 0
        with self.apiserver.client() as client:
            while not self._stopping.is_set():
                number += 1
                name = f"writer-{writer}-{number:06}"
                try:
                    stored = client.create(self.path, config_map(name, {"payload": "x" * 256}))
                except (ApiError, OSError) as failure:
                    # Not acknowledged: it may or may not have been stored. The name is not reused.
                    self.failures.append(str(failure))
                    time.sleep(0.05)
                else:
                    self.acknowledged[name] = int(stored["metadata"]["resourceVersion"])


def test_killed_under_load_nothing_acknowledged_is_lost(
    cluster: Cluster, api: ApiClient, make_namespace: Callable[[str], str]
) -> None:
    path = config_maps(make_namespace("crashed"))
    load = Load(cluster.apiserver, path)
    apiserver_pid = cluster.apiserver.pid
    start: dict[str, object] = {"resourceVersion": api.get(path)["metadata"]["resourceVersion"]}
    with WatchRecorder(cluster.apiserver.client(), path, start) as watch:
        with load.running():
            for crash in range(CRASHES):
                assert load.wait_for_more(ACKS_BEFORE_CRASH, RECOVERED_SECONDS_MAX)
                cluster.datastore.kill()
                time.sleep(DOWN_SECONDS)
                back_seconds = cluster.datastore.start()
                serving_from = time.monotonic()
                assert load.wait_for_more(WRITERS, RECOVERED_SECONDS_MAX), load.failures[-5:]
                writing_seconds = time.monotonic() - serving_from
                print(
                    f"crash {crash}: datastore back in {back_seconds:.1f} s, "
                    f"writes acknowledged {writing_seconds:.1f} s later"
                )
        cluster.apiserver.wait_ready(RECOVERED_SECONDS_MAX)
        stored = {
            item["metadata"]["name"]: int(item["metadata"]["resourceVersion"])
            for item in api.get(path)["items"]
        }
        caught_up = watch.wait_for(lambda seen: len(seen) >= len(stored), RECOVERED_SECONDS_MAX)

    print(f"{len(load.acknowledged)} acknowledged, {len(load.failures)} failed")
    assert load.acknowledged.items() <= stored.items()
    assert len(set(stored.values())) == len(stored)
    assert keys_below(cluster, "/registry/configmaps/crashed/") == set(stored)
    # The watch that was open before the first crash has seen every write, once, in order.
    assert caught_up, watch.ended
    assert {found.name: found.resource_version for found in watch.events} == stored
    versions = [found.resource_version for found in watch.events]
    assert versions == sorted(set(versions))
    assert cluster.apiserver.pid == apiserver_pid
    assert cluster.apiserver.running


def test_clean_restart_keeps_the_revision(cluster: Cluster, api: ApiClient) -> None:
    path = config_maps("crashed")
    before = cluster.datastore.revision()

    print(f"clean stop in {cluster.datastore.stop():.1f} s")
    cluster.datastore.start()
    cluster.apiserver.wait_ready(RECOVERED_SECONDS_MAX)

    assert cluster.datastore.revision() >= before
    assert wait_until(lambda: written(api, path, "after-restart"), RECOVERED_SECONDS_MAX)
    assert "after-restart" in cluster.kubectl.names("configmaps", "-n", "crashed")


def test_apiserver_is_sound_after_all_that(cluster: Cluster) -> None:
    log = cluster.apiserver.log_path.read_text()

    assert cluster.apiserver.running
    assert cluster.apiserver.metric_sum("apiserver_storage_decode_errors_total") == 0
    # The cache of what was written all the time went on where it was, without a new list.
    metric = "apiserver_watch_cache_initializations_total"
    assert cluster.apiserver.metric_sum(metric, resource="configmaps") == 1
    for alarm in ("panic", "prev_kv", "data race", "goroutine 1 ["):
        assert alarm not in log.lower()


def written(api: ApiClient, path: str, name: str) -> bool:
    """Tries one create; the first ones after a restart may meet a dead connection."""
    try:
        api.create(path, config_map(name))
    except (ApiError, OSError) as failure:
        return isinstance(failure, ApiError) and failure.reason == "AlreadyExists"
    return True


def keys_below(cluster: Cluster, prefix: str) -> set[str]:
    """The names under a prefix, as the datastore has them."""
    shown = cluster.datastore.etcdctl("get", "--prefix", "--keys-only", prefix).stdout
    return {line.removeprefix(prefix) for line in shown.split()}
