"""Every suite that `k8s.io/apiserver/pkg/storage/testing` exports passes, on kvshim as on etcd.

The driver (`*_test.go`) puts Kubernetes' storage, and its watch cache before that, on a datastore
and calls the suites by name. Both datastores are tried at the same time, since suites wait more
than they work.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.build import TARGETS, binary, build
from conformance.servers import BUILD_DIR, Kind
from conformance.summary import COLUMNS, Counts, Recorder, count

BUILD_SECONDS_MAX = 1200
RUN_SECONDS_MAX = 300
ENDED = re.compile(r"^ {4}--- (PASS|FAIL|SKIP): (\S+) \(", re.M)
EXPORTED = re.compile(r"^func (Run\w+)\(.*\*?testing\.TB?\b", re.M)
CALLED = re.compile(r"\bsuites\.(Run\w+)\(")

# What is not driven on the cache, and why. (On the storage itself every suite is.)
NOT_ON_THE_CACHE = {
    "RunTestWatchFromZero": "compacts within the cache's unexported history",
    "RunTestListInconsistentContinuation": "not written for a cache",
    "RunTestListResourceVersionMatch": "not written for a cache",
    "RunTestGuaranteedUpdate": "changes the storage's transformer under the cache",
    "RunTestGuaranteedUpdateChecksStoredData": "changes the storage's transformer under the cache",
    "RunTestTransformationFailure": "changes the storage's transformer under the cache",
    "RunTestGetListWithErrorAggregation": "changes the storage's transformer under the cache",
    "RunTestGetListWithoutErrorAggregation": "changes the storage's transformer under the cache",
    "RunTestWatchError": "changes the storage's transformer under the cache",
    "RunTestWatchWithUnsafeDelete": "changes the storage's transformer under the cache",
    "RunWatchErrorIsBlockingFurtherEvents": "changes the storage's transformer under the cache",
    "RunTestWatchContextCancel": "asks for the storage's own kind of watch",
    "RunOptionalTestProgressNotify": "the cache makes bookmarks of its own instead",
}

ONLY_ON_THE_CACHE = {"RunTestOptionalWatchBookmarksWithCorrectResourceVersion"}

Verdicts = dict[str, str]
"""PASS, FAIL or SKIP by the name of the suite."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, Future[Verdicts]]]:
    """Both runs, begun together."""
    build(TARGETS["storage-suites"])
    build(TARGETS["etcd"])
    logs = BUILD_DIR / "storage-suites-logs"
    logs.mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        yield {
            kind: pool.submit(run, kind, logs / f"{kind.value}.log")
            for kind in (Kind.KVSHIM, Kind.ETCD)
        }


def run(kind: Kind, log: Path) -> Verdicts:
    with log.open("wb") as out:
        subprocess.run(
            [binary("storage-suites"), "-test.v", f"-test.timeout={RUN_SECONDS_MAX}s"],
            env={**os.environ, "DATASTORE": str(kind.program)},
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=RUN_SECONDS_MAX + 10,
            check=False,
        )
    said = log.read_text(errors="replace")
    return {name: verdict for verdict, name in ENDED.findall(said)}


@pytest.mark.timeout(BUILD_SECONDS_MAX + RUN_SECONDS_MAX)
@pytest.mark.parametrize("kind", [Kind.KVSHIM, Kind.ETCD], ids=lambda kind: kind.value)
def test_every_suite_passes(
    kind: Kind, runs: dict[Kind, Future[Verdicts]], record_property: Recorder
):
    verdicts = runs[kind].result()
    passed = sum(verdict == "PASS" for verdict in verdicts.values())
    count(record_property, kind, Counts(passed, len(verdicts) - passed))
    bad = [name for name, verdict in verdicts.items() if verdict != "PASS"]
    log = BUILD_DIR / "storage-suites-logs" / f"{kind.value}.log"
    assert not bad, f"{log} says why"
    assert passed > 100, f"the run broke off; {log} says why"


def test_every_exported_suite_is_driven(record_property: Recorder):
    for kind in COLUMNS:
        count(record_property, kind, Counts(1))
    here = Path(__file__).resolve().parent
    found = subprocess.run(
        ["go", "list", "-mod=readonly", "-f", "{{.Dir}}", "k8s.io/apiserver/pkg/storage/testing"],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    sources = Path(found.stdout.strip()).glob("*_tests.go")
    exported = {name for source in sources for name in EXPORTED.findall(source.read_text())}
    assert len(exported) > 50
    on_store = set(CALLED.findall((here / "store_test.go").read_text()))
    on_cache = set(CALLED.findall((here / "cacher_test.go").read_text()))
    assert exported - on_store == ONLY_ON_THE_CACHE
    assert exported - on_cache == NOT_ON_THE_CACHE.keys()
