"""The figures of `make bench`: medians, ratios, the page, and servers taking turns."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from bench import figures, report, rounds, versions
from bench.figures import Better
from bench.load import Load
from bench.rounds import Plan
from conformance.servers import Kind

OPERATIONS = {"operations": 1000, "per_second": 100.0, "p50_ms": 1.0, "p99_ms": 2.0}
RECORD = {
    "server": "etcd",
    "round": 1,
    "start_seconds": 0.5,
    "other_cpu_seconds": 0.25,
    "usage": {
        "cpu_seconds": 4.0,
        "rss_mib": 60.0,
        "rss_peak_mib": 90.0,
        "written_mib": 20.0,
        "data_dir_mib": 120.0,
    },
    "result": {"phases": {"create": {**OPERATIONS, "server_cpu_seconds": 0.3}}},
}
PHASES = ("create",)


def record(server: str, per_second: float) -> figures.Record:
    made = copy.deepcopy(RECORD)
    made["server"] = server
    made["result"]["phases"]["create"]["per_second"] = per_second
    return made


def measurement(what: str, date: str) -> dict:
    records = [record("etcd", 100), record("kvshim", 250)]
    medians = figures.medians(records, PHASES)
    return {
        "what": what,
        "date": date,
        "load": {"objects": 1000, "value_bytes": 1024, "watchers": 100, "phases": list(PHASES)},
        "rounds": 1,
        "versions": {"etcd": "3.7.3", "kvshim": "0.1.0"},
        "machine": {"cores": 2, "memory_mib": 4096, "system": "Linux", "python": "3.11"},
        "medians": medians,
        "ratios": figures.ratios(medians["kvshim"], medians["etcd"]),
        "records": records,
    }


def test_a_slow_round_does_not_move_the_median() -> None:
    records = [record("etcd", speed) for speed in (100, 1, 110)]
    records += [record("kvshim", speed) for speed in (50, 55, 900)]

    medians = figures.medians(records, PHASES)

    assert medians["etcd"]["create_per_second"] == 100
    assert medians["kvshim"]["create_per_second"] == 55
    assert medians["etcd"]["create_cpu_us"] == pytest.approx(300)
    ratios = figures.ratios(medians["kvshim"], medians["etcd"])
    assert ratios["create_per_second"] == pytest.approx(0.55)


def test_a_figure_of_a_phase_that_did_not_run_is_left_out() -> None:
    names = {figure.name for figure in figures.shown(PHASES)}

    assert {"create_per_second", "rss_mib"} <= names
    assert not names & {"update_per_second", "list_ms", "watch_p50_ms"}


def test_cpu_time_too_short_to_be_seen_has_no_ratio() -> None:
    assert figures.ratios({"get_cpu_us": 10.0}, {"get_cpu_us": 0.0}) == {"get_cpu_us": None}


def test_only_rates_are_better_when_higher() -> None:
    higher = {figure.name for figure in figures.FIGURES if figure.better is Better.HIGHER}

    assert higher == {f"{phase}_per_second" for phase in figures.WRITES_AND_GETS}


def test_the_page_has_a_table_for_the_newest_of_each_kind(tmp_path: Path) -> None:
    report.save(measurement("one-node", "2026-11-20T10:00:00+00:00"), tmp_path)
    report.save(measurement("one-node", "2026-11-21T10:00:00+00:00"), tmp_path)
    report.save(measurement("large", "2026-11-19T10:00:00+00:00"), tmp_path)

    page = (tmp_path / report.PAGE).read_text()

    assert page.count("| create/s | 100 | 250 | 2.50 | higher |") == 2
    assert "## one-node, 2026-11-21" in page
    assert "## large, 2026-11-19" in page
    assert "Older: [2026-11-20-one-node.json](2026-11-20-one-node.json)." in page


def test_servers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_once", lambda kind, plan: {"ran": kind})
    plan = Plan([Kind.ETCD, Kind.KVSHIM], 2, Load(), {}, 1.0)

    records = rounds.measure(plan, lambda line: None)

    assert [(record["round"], record["ran"]) for record in records] == [
        (1, Kind.ETCD),
        (1, Kind.KVSHIM),
        (2, Kind.ETCD),
        (2, Kind.KVSHIM),
    ]


def test_sources_that_change_during_a_measurement_spoil_it(tmp_path: Path) -> None:
    source = tmp_path / "kvshim" / "node.py"
    source.parent.mkdir()
    source.write_text("before = 1\n")
    program = versions.Program.now(tmp_path)
    program.require_unchanged()

    source.write_text("after = 2\n")

    with pytest.raises(versions.VersionError, match="sources changed during the measurement"):
        program.require_unchanged()
