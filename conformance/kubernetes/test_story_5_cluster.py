"""Chapter five: three members on trial, killed and stopped in turns under an API server's feet.

Writers, the holder of a Lease and informers work all through. What is checked is what users of a
cluster rely on: nothing acknowledged is lost, every informer's cache is what a fresh list says, and
nobody, the API server's own caches included, had to list again while a majority lived.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest

from conformance.kubernetes.apiserver import EVENT_TTL_SECONDS, ApiServer, Endpoints
from conformance.kubernetes.client import ApiError, Object, wait_until
from conformance.kubernetes.conftest import keep_logs
from conformance.kubernetes.informer import Informer
from conformance.kubernetes.kubectl import Kubectl
from conformance.kubernetes.objects import (
    config_map,
    config_maps,
    event,
    lease,
    namespace_object,
    namespaced,
)
from conformance.servers import Kind
from tests.cluster.cluster import Cluster
from tests.cluster.member import Member
from tests.support.datastore import Kind as Program

NAMESPACE = "hurt"
PATH = config_maps(NAMESPACE)
LEASES = namespaced(NAMESPACE, "leases", "coordination.k8s.io/v1")
EVENTS = namespaced(NAMESPACE, "events")
EVENT_NAMES = ("first", "second")

WRITERS = 3
WRITER_PAUSE_SECONDS = 0.01
INFORMERS = 3
WRITES_BETWEEN = 60
PAUSED_SECONDS = 3.0
LEASE_SECONDS = 15.0
RENEW_SECONDS = 0.5
SECONDS_MAX = 60.0
SETUP_SECONDS_MAX = 120.0
"""Of three nodes and an API server beside another suite."""


@dataclass(slots=True)
class Ledger:
    """What was acknowledged of each name, and what was tried without an answer."""

    versions: dict[str, int | None] = field(default_factory=dict)
    """The last acknowledged resource version; None: acknowledged as deleted."""
    open: dict[str, str] = field(default_factory=dict)
    """The verb that had no good answer; the name was not used again."""
    writes: int = 0
    failures: list[str] = field(default_factory=list)

    def problems(self, stored: dict[str, int]) -> list[str]:
        """Each way in which what is stored denies what was acknowledged."""
        found = []
        for name, version in self.versions.items():
            now, tried = stored.get(name), self.open.get(name)
            if tried is None and now != version:
                found.append(f"{name}: {now} instead of {version}")
            elif tried == "delete" and now not in (version, None):
                found.append(f"{name}: {now} instead of {version}, or gone")
            elif tried == "replace" and (now is None or now < (version or 0)):
                found.append(f"{name}: {now} instead of {version} or later")
        unknown = stored.keys() - self.versions.keys() - self.open.keys()
        return found + [f"{name}: nobody wrote it" for name in sorted(unknown)]


@dataclass(slots=True)
class Story:
    """The cluster, the API server on it, and everybody who works with it."""

    members: Cluster
    apiserver: ApiServer
    kubectl: Kubectl
    ledger: Ledger = field(default_factory=Ledger)
    informers: list[Informer] = field(default_factory=list)
    renewals: list[float] = field(default_factory=list)
    stolen: list[str] = field(default_factory=list)
    """Renewals that somebody else's write refused; there is nobody else."""
    events_at: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def begin(self) -> None:
        """Writers and the holder of a Lease."""
        works = [self._hold, *[lambda n=n: self._write(n) for n in range(WRITERS)]]
        self.threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        """No further write."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(SECONDS_MAX)
            assert not thread.is_alive()

    def go_on(self) -> None:
        """So many further writes by all together, and one by kubectl."""
        goal = self.ledger.writes + WRITES_BETWEEN
        enough = wait_until(lambda: self.ledger.writes >= goal, SECONDS_MAX)
        assert enough, self.ledger.failures[-5:]
        name = f"kubectl-{next(self._numbers)}"
        shown = self.kubectl.json("create", "-n", NAMESPACE, "-f", "-", stdin=config_map(name))
        self.ledger.versions[name] = int(shown["metadata"]["resourceVersion"])

    def stored(self) -> dict[str, int]:
        """What is served. While its cache fills, the API server asks clients to come again."""
        found: dict[str, int] = {}

        def served() -> bool:
            try:
                found.update(versions_of(client.get(PATH)))
            except ApiError as refusal:
                if refusal.code != HTTPStatus.TOO_MANY_REQUESTS:
                    raise
                return False
            return True

        with self.apiserver.client() as client:
            assert wait_until(served, SECONDS_MAX, every=1.0), "the cache did not fill"
        return found

    def initializations(self) -> float:
        """How often the API server's caches were filled by a list, all kinds together."""
        return self.apiserver.metric_sum("apiserver_watch_cache_initializations_total")

    def _write(self, writer: int) -> None:
        """Creates, changes, and deletes every third one."""
        with self.apiserver.client() as client:
            for number in itertools.count():
                name = f"writer-{writer}-{number:06}"
                made = self._try(name, "create", lambda n=name: client.create(PATH, config_map(n)))
                if made is not None:
                    made["data"] = {"changed": "yes"}
                    at = f"{PATH}/{name}"
                    changed = self._try(name, "replace", lambda a=at, m=made: client.replace(a, m))
                    if changed is not None and number % 3 == 0:
                        self._try(name, "delete", lambda a=at: client.delete(a))
                if self.stopping.wait(WRITER_PAUSE_SECONDS):
                    return

    def _try(self, name: str, verb: str, call: Callable[[], Object]) -> Object | None:
        try:
            answer = call()
        except (ApiError, OSError) as failure:
            self.ledger.open[name] = verb
            self.ledger.failures.append(f"{verb} {name}: {failure}")
            self.stopping.wait(0.05)
            return None
        version = int(answer["metadata"]["resourceVersion"]) if verb != "delete" else None
        self.ledger.versions[name] = version
        self.ledger.writes += 1
        return answer

    def _hold(self) -> None:
        """Renew one Lease as a leader election does, each time from what it last read."""
        at = f"{LEASES}/holder"
        with self.apiserver.client() as client:
            held, unsure = client.create(LEASES, lease("holder", "one")), False
            while not self.stopping.wait(RENEW_SECONDS):
                try:
                    if unsure:
                        held, unsure = client.get(at), False
                    held = client.replace(at, held)
                    self.renewals.append(time.monotonic())
                except (ApiError, OSError) as failure:
                    if isinstance(failure, ApiError) and failure.code in (404, 409) and not unsure:
                        self.stolen.append(str(failure))
                    unsure = True


def versions_of(listed: Object) -> dict[str, int]:
    return {
        item["metadata"]["name"]: int(item["metadata"]["resourceVersion"])
        for item in listed["items"]
    }


@pytest.fixture(scope="module")
def story(datastore_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Everybody at work."""
    directory = tmp_path_factory.mktemp("chapter-5", numbered=False)
    flags = ("--watch-progress-notify-interval=5s",)
    with ExitStack() as stack:
        stack.callback(keep_logs, directory)
        program = Program(datastore_kind.value)
        members = stack.enter_context(Cluster(3, directory / "nodes", *flags, kind=program))
        members.start()
        urls = ",".join(member.client_url for member in members.members)
        apiserver = ApiServer(Endpoints(urls), directory)
        stack.callback(apiserver.stop)
        apiserver.start()
        made = Story(members, apiserver, Kubectl(apiserver.kubeconfig, directory))
        with apiserver.client() as client:
            client.create("/api/v1/namespaces", namespace_object(NAMESPACE))
            for name in EVENT_NAMES:
                client.create(EVENTS, event(NAMESPACE, name, "it happened"))
            made.events_at = time.monotonic()
        paths = [PATH] * INFORMERS + [EVENTS]
        made.informers = [stack.enter_context(Informer(apiserver, path)) for path in paths]
        stack.callback(made.stopping.set)
        made.begin()
        yield made


def kill(story: Story, member: Member) -> None:
    """SIGKILL; the others go on; it comes back."""
    member.kill()
    story.go_on()
    story.members.restart(member)
    story.members.wait_leader(everyone=True)
    story.go_on()


@pytest.mark.timeout(SETUP_SECONDS_MAX + SECONDS_MAX * 2)
def test_members_go_one_at_a_time_and_no_watch_begins_anew(story: Story) -> None:
    pid, filled = story.apiserver.pid, story.initializations()
    story.go_on()

    kill(story, story.members.wait_leader(everyone=True))
    for follower in story.members.followers():
        kill(story, follower)

    leader = story.members.wait_leader(everyone=True)
    leader.pause()
    time.sleep(PAUSED_SECONDS)  # the trouble itself
    leader.resume()
    story.members.wait_leader(everyone=True)
    story.go_on()

    for member in list(story.members.members):  # a rolling restart
        member.stop()
        story.members.restart(member)
        story.members.wait_leader(everyone=True)
        story.go_on()

    story.apiserver.wait_ready(SECONDS_MAX)
    assert story.apiserver.pid == pid
    assert story.initializations() == filled, "the API server had to fill a cache again"
    log = story.apiserver.log_path.read_text().lower()
    assert "too old resource version" not in log
    # Not the informer of Events: the API server has no cache of them, and resumes an idle watch of
    # them where it began, which may be compacted by then. On etcd it is told so as well.
    for informer in story.informers[:-1]:
        assert informer.relists == 0, informer.endings
    assert not story.stolen
    gaps = [after - before for before, after in itertools.pairwise(story.renewals)]
    print(
        f"{story.ledger.writes} writes acknowledged, {len(story.ledger.failures)} not; "
        f"longest gap of a Lease's renewals {max(gaps):.1f} s"
    )
    assert max(gaps) < LEASE_SECONDS, "a leader election would have been lost"


def test_without_a_majority_the_api_server_says_so_and_recovers(story: Story) -> None:
    down = story.members.followers()
    for member in down:
        member.kill()

    assert wait_until(lambda: "[-]etcd failed" in readyz(story), SECONDS_MAX)
    with story.apiserver.client() as client:
        for call in (
            lambda: client.create(PATH, config_map("without-majority")),
            lambda: client.get(f"{PATH}/kubectl-0"),
        ):
            with pytest.raises((ApiError, OSError)):
                call()
    writes = story.ledger.writes
    story.ledger.open["without-majority"] = "create"

    for member in down:
        story.members.restart(member)
    story.members.wait_leader(everyone=True)
    story.apiserver.wait_ready(SECONDS_MAX)
    assert wait_until(lambda: "[+]etcd ok" in readyz(story), SECONDS_MAX)
    story.go_on()
    assert story.ledger.writes > writes


def test_nothing_acknowledged_is_lost_and_every_cache_is_right(story: Story) -> None:
    story.end()
    stored = story.stored()

    assert story.ledger.problems(stored) == []
    for informer in story.informers[:-1]:
        caught_up = wait_until(lambda i=informer: i.cache == stored, SECONDS_MAX)
        missing = stored.items() ^ informer.cache.items()
        assert caught_up, (sorted(missing)[:5], informer.endings)
        assert informer.disorder == []
        print(
            f"an informer: {informer.events} events, {informer.watches} watches, "
            f"{informer.relists} lists made again, {dict(Counter(informer.endings))}"
        )
        # The majority was lost once: each informer lists again at most once for it.
        assert informer.relists <= 1
    revision = story.members.wait_same_revision()
    assert revision >= max(stored.values())
    log = story.apiserver.log_path.read_text().lower()
    assert story.apiserver.metric_sum("apiserver_storage_decode_errors_total") == 0
    for alarm in ("panic:", "prev_kv", "data race", "goroutine 1 ["):
        assert alarm not in log


def test_events_expire_in_the_end_and_not_before_their_time(story: Story) -> None:
    informer = story.informers[-1]

    def gone() -> bool:
        with story.apiserver.client() as client:
            return not client.get(EVENTS)["items"]

    # A new leader gives every lease its whole time again, as etcd's does.
    assert wait_until(gone, 2 * EVENT_TTL_SECONDS + SECONDS_MAX)
    for name in EVENT_NAMES:
        at = informer.removed_at.get(name)
        assert at is None or at - story.events_at >= EVENT_TTL_SECONDS - 1


def readyz(story: Story) -> str:
    """The page, ready or not."""
    try:
        with story.apiserver.client() as client:
            return client.get_text("/readyz?verbose")
    except ApiError as failure:
        return str(failure)
