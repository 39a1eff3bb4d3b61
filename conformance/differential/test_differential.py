"""kvshim answers as etcd does: what differed once, three seeds that stay, and one that is fresh.

And the suite can tell servers apart: kine, which is no etcd, is found out at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.build import TARGETS, build
from conformance.differential import suite
from conformance.differential.client import Client
from conformance.differential.compare import first_difference
from conformance.differential.differences import FREE, RULES
from conformance.differential.generate import sequence
from conformance.differential.pair import Pair
from conformance.differential.run import Transcript
from conformance.differential.shrink import shrink
from conformance.differential.steps import Sequence, load
from conformance.servers import Kind
from kvshim.pb.etcd import rpc_pb2

SEEDS = ("one", "two", "three")
FRESH = "fresh"
REQUESTS = int(os.environ.get("DIFFERENTIAL_REQUESTS", "200000"))
SECONDS_MAX = 1800
KINE_REQUESTS = 600
KEPT = sorted(suite.FOUND.glob("*.json"))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """One pair for all short stories; each leaves it empty unless it fails."""
    build(TARGETS["etcd"])
    with Pair(Kind.KVSHIM) as started:
        yield started


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_differed_once(pair: Pair, path: Path):
    pair.restart()
    difference = pair.run(load(path)).difference
    assert difference is None, str(difference)


@pytest.mark.timeout(SECONDS_MAX)
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=pytest.mark.xdist_group(f"differential-{seed}"))
        for seed in (*SEEDS, FRESH)
    ],
)
def test_no_answer_differs(seed: str):
    """A share of the requests for each seed, so that pytest's workers take one each."""
    build(TARGETS["etcd"])
    seed = suite.fresh_seed() if seed == FRESH else seed
    print(f"seed: {seed}")
    share = suite.Share(Kind.KVSHIM, (seed,), 0, 1, -(-REQUESTS // (len(SEEDS) + 1)))
    report = suite.run_share(share)
    suite.write(report.found)
    told = "\n".join(f"seed {found.seed}: {found.difference}" for found in report.found)
    assert not report.found, f"{told}\nseed {seed}; shortest forms are in {suite.FOUND}"
    assert report.requests >= share.requests
    print(f"{report.requests} requests in {report.sequences} sequences, all alike")


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Kind.KINE.program.exists(), reason="python conformance/build.py kine")
def test_kine_is_told_apart():
    share = suite.Share(Kind.KINE, ("kine",), 0, 1, KINE_REQUESTS, tries_max=0)
    assert suite.run_share(share).found


def test_a_wrong_answer_is_found_and_shortened(pair: Pair):
    """Here the wrong answer is one that may differ: the table is what hides it."""
    made = sequence("shorten/1")
    made.insert(len(made) // 2, {"call": "Maintenance/Status", "request": {}})
    assert pair.run(made).difference is None

    def shows_status(candidate: list[dict[str, object]]) -> bool:
        return any(step.get("call") == "Maintenance/Status" for step in candidate)

    assert shrink(made, shows_status, 1000) == [{"call": "Maintenance/Status", "request": {}}]


@pytest.mark.parametrize(("sessions", "differs"), [(False, True), (True, False)])
def test_leases_end_in_an_order_of_luck_only_where_etcd_renews_them(sessions: bool, differs: bool):
    """Seen in 2 of 360 runs of `lock-given-up` on a busy machine, between etcd and itself."""
    told = [Transcript(sessions=sessions), Transcript(sessions=sessions)]
    for transcript, leases in zip(told, ((1, 2), (2, 1)), strict=True):
        statuses = [rpc_pb2.LeaseStatus(ID=lease) for lease in leases]
        answer = rpc_pb2.LeaseLeasesResponse(leases=statuses)
        transcript.answers.append(("end Lease/LeaseLeases", answer))
    assert (first_difference(*told) is not None) == differs


def test_a_key_that_stayed_in_etcd_alone_is_luck_and_one_in_kvshim_is_not(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
):
    """Seen once in many runs; half of all runs with an etcd built to pause after it proposes."""
    stays = {Kind.ETCD: 1, Kind.KVSHIM: 0}

    def run(client: Client, _: Sequence) -> Transcript:
        kind = client.store.kind
        stays[kind] -= 1
        answers = [("key n/2", "is not as it should be")] if stays[kind] >= 0 else []
        return Transcript(answers, stayed=bool(answers))

    monkeypatch.setattr(pair, "_run", run)
    assert pair.run([]).difference is None
    stays = {Kind.ETCD: 0, Kind.KVSHIM: 1}
    assert pair.run([]).difference is not None


def test_sequences_are_the_same_everywhere():
    assert sequence("one/0") == sequence("one/0") != sequence("one/1")


def test_every_difference_is_argued():
    text = (suite.FOUND.parents[2] / "docs" / "differences.md").read_text()
    assert all(entry.why for entry in (*FREE, *RULES))
    missing = [free.field for free in FREE if f"`{free.field}`" not in text]
    missing += [rule.message for rule in RULES if f"`{rule.message}`" not in text]
    assert not missing, f"docs/differences.md lacks {missing}"
