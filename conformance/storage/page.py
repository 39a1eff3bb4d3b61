"""docs/kubernetes-storage.md, from the last run's logs: `python -m conformance.storage.page`."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from conformance.servers import BUILD_DIR, ROOT, Kind

PAGE = ROOT / "docs" / "kubernetes-storage.md"
LOGS = BUILD_DIR / "storage-suites-logs"

ENDED = re.compile(r"^ {4}--- (PASS|FAIL|SKIP): (\S+) \(", re.M)
LAYERS = ("TestStore", "TestCacher")
KINDS = (Kind.ETCD, Kind.KVSHIM)

Verdicts = dict[str, str]
"""PASS, FAIL or SKIP by the name of the suite below its layer."""

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
"""What is not driven on the cache, and why. On the storage itself every suite is."""

HEAD = """\
# Kubernetes' own tests of its storage

The suites that `k8s.io/apiserver/pkg/storage/testing` exports, in the version of kube-apiserver
1.37.2, driven by [our program](../conformance/storage) on Kubernetes' `etcd3` storage and on its
watch cache, each on etcd 3.7.3 and on kvshim. `make conformance` runs them and fails when this page
tells other results; `python -m conformance.storage.page` writes it after a run.
"""

HEADER = """\
| suite | storage on etcd | on kvshim | watch cache on etcd | on kvshim |
|---|---|---|---|---|"""


def log_of(kind: Kind) -> Path:
    """What the run on that datastore printed."""
    return LOGS / f"{kind.value}.log"


def verdicts(log: Path) -> Verdicts:
    """How each suite ended."""
    said = log.read_text(errors="replace")
    return {name: verdict for verdict, name in ENDED.findall(said)}


def rendered(results: Mapping[Kind, Verdicts]) -> str:
    """The whole page."""
    parts = [HEAD, HEADER, *_rows(results)]
    parts += ["\n## Not on the watch cache\n", "| suite | why |\n|---|---|"]
    parts += [f"| {suite} | {why} |" for suite, why in NOT_ON_THE_CACHE.items()]
    return "\n".join(parts) + "\n"


def _rows(results: Mapping[Kind, Verdicts]) -> Iterator[str]:
    names = {name.partition("/")[2] for ended in results.values() for name in ended}
    for suite in sorted(names):
        cells = [
            results[kind].get(f"{layer}/{suite}", "").lower() for layer in LAYERS for kind in KINDS
        ]
        yield f"| {suite} | {' | '.join(cells)} |"


def main() -> None:
    PAGE.write_text(rendered({kind: verdicts(log_of(kind)) for kind in KINDS}))
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
