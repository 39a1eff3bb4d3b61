"""Every suite that `k8s.io/apiserver/pkg/storage/testing` exports passes, on kvshim as on etcd.

The driver (`*_test.go`) puts Kubernetes' storage, and its watch cache before that, on a datastore
and calls the suites by name. Both datastores are tried at the same time, since suites wait more
than they work. No other test runs beside them: suites give an event a fifth of a second.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.build import TARGETS, binary, build
from conformance.servers import Kind
from conformance.storage.page import (
    LOGS,
    NOT_ON_THE_CACHE,
    PAGE,
    Verdicts,
    log_of,
    rendered,
    verdicts,
)
from conformance.summary import COLUMNS, Counts, Recorder, count

pytestmark = pytest.mark.alone

BUILD_SECONDS_MAX = 1200
RUN_SECONDS_MAX = 300

# Kubernetes runs its suites on an etcd that waits for no disk. What others write to this one is not
# on trial here.
MEMORY = Path("/dev/shm")
IN_MEMORY = {"TMPDIR": str(MEMORY)} if MEMORY.is_dir() else {}

EXPORTED = re.compile(r"^func (Run\w+)\(.*\*?testing\.TB?\b", re.M)
CALLED = re.compile(r"\bsuites\.(Run\w+)\(")

ONLY_ON_THE_CACHE = {"RunTestOptionalWatchBookmarksWithCorrectResourceVersion"}


@pytest.fixture(scope="module")
def runs() -> dict[Kind, Verdicts]:
    """Both runs, at the same time."""
    build(TARGETS["storage-suites"])
    build(TARGETS["etcd"])
    LOGS.mkdir(exist_ok=True)
    with ThreadPoolExecutor(len(COLUMNS)) as pool:
        return dict(zip(COLUMNS, pool.map(run, COLUMNS, map(log_of, COLUMNS)), strict=True))


def run(kind: Kind, log: Path) -> Verdicts:
    with log.open("wb") as out:
        subprocess.run(
            [binary("storage-suites"), "-test.v", f"-test.timeout={RUN_SECONDS_MAX}s"],
            env={**os.environ, **IN_MEMORY, "DATASTORE": str(kind.program)},
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=RUN_SECONDS_MAX + 10,
            check=False,
        )
    return verdicts(log)


@pytest.mark.timeout(BUILD_SECONDS_MAX + RUN_SECONDS_MAX)
@pytest.mark.parametrize("kind", [Kind.KVSHIM, Kind.ETCD], ids=lambda kind: kind.value)
def test_every_suite_passes(kind: Kind, runs: dict[Kind, Verdicts], record_property: Recorder):
    ended = runs[kind]
    passed = sum(verdict == "PASS" for verdict in ended.values())
    count(record_property, kind, Counts(passed, len(ended) - passed))
    bad = [name for name, verdict in ended.items() if verdict != "PASS"]
    assert not bad, f"{log_of(kind)} says why"
    assert passed > 100, f"the run broke off; {log_of(kind)} says why"


def test_the_page_tells_these_results(runs: dict[Kind, Verdicts]):
    assert PAGE.read_text() == rendered(runs), "run: python -m conformance.storage.page"


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
