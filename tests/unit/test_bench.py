"""The tooling of `make bench`: goals, medians, verdicts, turns, charts, the page."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from bench import __main__ as command
from bench import chart, figures, histogram, report, runner, usage, versions
from bench.goals import FIGURES, Better, Figure, Goal, Of
from bench.load import LoadError
from bench.measure import MEASUREMENTS
from bench.measure.long_load import growth
from bench.runner import Plan
from bench.scale import Scale
from bench.trial import Measurement, Outcome, Trial
from conformance.servers import Kind

FASTER = Figure("load", "create_per_second", "create/s", Better.HIGHER, 0, Goal(Of.RATIO, 1.3))
SMALLER = Figure("lag", "lag_p999_ms", "lag", Better.LOWER, 1, Goal(Of.VALUE, 20))


def record(server: str, measurement: str = "load", **found: float) -> figures.Record:
    return {
        "measurement": measurement,
        "server": server,
        "round": 1,
        "seconds": 2.0,
        "other_cpu_share": 0.25,
        "figures": found,
        "details": {},
    }


def run_of(what: str, date: str, records: list[figures.Record]) -> dict:
    return {
        "format": report.FORMAT,
        "what": what,
        "date": date,
        "measurements": ["load", "lag"],
        "rounds": {"load": 1, "lag": 1},
        "scale": {"objects": 5000, "large_objects": 200_000, "value_bytes": 1024},
        "versions": {"etcd": "3.7.3", "kvshim": "0.1.0"},
        "machine": {"cores": 2, "memory_mib": 4096, "system": "Linux", "python": "3.11"},
        "medians": figures.medians(records),
        "records": records,
        "failures": {},
    }


def both(what: str = "all", date: str = "2026-11-20T10:00:00+00:00") -> dict:
    records = [record("etcd", create_per_second=100), record("kvshim", create_per_second=250)]
    return run_of(what, date, [*records, record("kvshim", "lag", lag_p999_ms=25.0)])


# --- the goals


def test_the_table_of_goals_is_whole():
    """A row for each of the goals, none measured twice, none without a measurement."""
    names = [figure.name for figure in FIGURES]
    assert len(names) == len(set(names))
    assert {figure.measurement for figure in FIGURES} == {one.name for one in MEASUREMENTS}
    goals = {figure.name: figure.goal_text() for figure in FIGURES if figure.goal}
    assert goals == {
        "create_per_second": ">= 1.3x",
        "update_per_second": ">= 1.3x",
        "delete_per_second": ">= 1.3x",
        "tls_create_per_second": ">= 1.5x",
        "tls_update_per_second": ">= 1.5x",
        "tls_delete_per_second": ">= 1.5x",
        "get_per_second": ">= 1x",
        "get_cpu_us": "<= 0.9x",
        "put_cpu_us": "<= 0.8x",
        "three_writes_per_second": ">= 1.2x",
        "three_gets_per_second": ">= 1x",
        "list_ms": "<= 0.8x",
        "large_list_ms": "<= 0.6x",
        "large_stream_ms": "<= 0.6x",
        "large_paged_ms": "<= 0.1x",
        "watch_p50_ms": "<= 1.2x",
        "watch_p99_ms": "<= 1.2x",
        "large_watch_p50_ms": "<= 0.8x",
        "large_watch_p99_ms": "<= 0.8x",
        "old_page_multiple": "<= 3",
        "old_get_ms": "<= 1",
        "lag_p999_ms": "<= 20",
        "large_rss_peak_mib": "<= 0.12x",
        "idle_rss_mib": "<= 60",
        "start_seconds": "<= 1",
        "killed_start_seconds": "<= 5",
        "idle_cpu_percent": "<= 1",
        "idle_wakeups": "<= 30",
        "three_idle_cpu_percent": "<= 1",
        "three_idle_wakeups": "<= 30",
        "disk_kib_per_put": "<= 1x",
        "hour_rss_growth": "<= 1.1",
        "hour_wal_growth": "<= 1.1",
        "hour_file_growth": "<= 1.1",
    }


def test_gets_are_measured_in_seven_rounds():
    assert next(one.rounds for one in MEASUREMENTS if one.name == "get") == 7


@pytest.mark.parametrize(
    ("figure", "value", "ratio", "margin"),
    [
        (FASTER, 260.0, 2.6, 2.0),
        (FASTER, 65.0, 0.65, 0.5),
        (FASTER, 260.0, None, None),
        (SMALLER, 10.0, None, 2.0),
        (SMALLER, 40.0, 0.1, 0.5),
        (SMALLER, 0.0, None, math.inf),
        (SMALLER, None, None, None),
    ],
)
def test_a_margin_says_how_many_times_as_good_as_the_goal(
    figure: Figure, value: float | None, ratio: float | None, margin: float | None
):
    assert figure.margin(value, ratio) == (margin if margin is None else pytest.approx(margin))


# --- medians and verdicts


def test_a_slow_round_does_not_move_the_median():
    records = [record("etcd", create_per_second=speed) for speed in (100, 1, 110)]
    records += [record("kvshim", create_per_second=speed) for speed in (50, 55, 900)]

    (line,) = figures.lines(run_of("all", "", records))

    assert line.medians == {"etcd": 100, "kvshim": 55}
    assert line.ratio == pytest.approx(0.55)
    assert line.verdict == "not met"


def test_what_was_not_measured_has_no_line_and_what_has_no_other_side_no_ratio():
    created, lag = figures.lines(both())

    assert (created.figure.name, created.ratio, created.verdict) == (
        "create_per_second",
        2.5,
        "met",
    )
    assert (lag.figure.name, lag.ratio, lag.verdict) == ("lag_p999_ms", None, "not met")


def test_cpu_time_too_short_to_be_seen_has_no_ratio():
    records = [record("etcd", put_cpu_us=0.0), record("kvshim", put_cpu_us=10.0)]

    (line,) = figures.lines(run_of("all", "", records))

    assert (line.ratio, line.verdict) == (None, "")


# --- running


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    return tmp_path


def planned(measurements: list[Measurement], rounds: int = 2) -> Plan:
    return Plan(measurements, [Kind.ETCD, Kind.KVSHIM], lambda _: rounds, Scale())


def test_servers_take_turns_and_every_second_round_the_other_goes_first(root: Path):
    def ran(trial: Trial) -> Outcome:
        (trial.directory / "log").write_text("ran")
        return Outcome({"create_per_second": 1.0 if trial.kind is Kind.ETCD else 2.0})

    results = runner.measure(planned([Measurement("load", "", ran)]), lambda _: None)

    order = [(one["round"], one["server"]) for one in results.records]
    assert order == [(1, "etcd"), (1, "kvshim"), (2, "kvshim"), (2, "etcd")]
    assert results.failures == {}
    assert list((root / "build").iterdir()) == [], "directories of trials that went well stay"


def test_what_fails_on_a_server_is_named_and_everything_else_goes_on(root: Path):
    def fails(trial: Trial) -> Outcome:
        if trial.kind is Kind.KVSHIM:
            raise LoadError(f"a list lacks an object, see {root}/build/log\nand more")
        return Outcome({"create_per_second": 1.0})

    def works(_: Trial) -> Outcome:
        return Outcome({"lag_p999_ms": 1.0})

    told: list[str] = []
    ours = Measurement("lag", "", works, servers=(Kind.KVSHIM,))
    plan = planned([Measurement("load", "", fails), ours])
    results = runner.measure(plan, told.append)

    assert results.failures == {"load on kvshim": "a list lacks an object, see build/log"}
    ran = [(one["measurement"], one["server"]) for one in results.records]
    assert ran == [("load", "etcd")] * 2 + [("lag", "kvshim")] * 2
    assert f"load on kvshim failed: a list lacks an object, see {root}/build/log\nand more" in told
    assert [path.name.startswith("bench-load-kvshim-") for path in (root / "build").iterdir()] == [
        True
    ]


def test_the_command_line_chooses_measurements_rounds_and_sizes():
    usual = command.plan_of(command.parse([]))
    assert "hour" not in [one.name for one in usual.measurements]
    rounds = {one.name: usual.rounds(one) for one in usual.measurements}
    assert (rounds["load"], rounds["large"], rounds["idle"]) == (3, 3, 1)

    full = command.plan_of(command.parse(["--full"]))
    assert {one.name: full.rounds(one) for one in full.measurements}["idle"] == 3

    options = command.parse(["--only", "get,watch", "--rounds", "2", "--objects", "50"])
    chosen = command.plan_of(options)
    assert [one.name for one in chosen.measurements] == ["get", "watch"]
    assert [chosen.rounds(one) for one in chosen.measurements] == [2, 2]
    assert chosen.scale == Scale(objects=50)
    assert command.name_of(options) == "get-watch"


def test_an_unknown_measurement_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        command.parse(["--only", "lists"])
    assert "no measurement 'lists'; there are load, tls, get" in capsys.readouterr().err


def test_a_failed_measurement_is_kept_and_makes_the_exit_code(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails(_: Trial) -> Outcome:
        raise LoadError("it hangs")

    saved: list[dict] = []

    def save(run: dict) -> Path:
        saved.append(run)
        return command.ROOT / "run.json"

    only = Measurement("lag", "", fails, servers=(Kind.KVSHIM,))
    monkeypatch.setattr(command, "MEASUREMENTS", (only,))
    monkeypatch.setattr(command.load, "build", lambda: None)
    monkeypatch.setattr(command.report, "save", save)

    assert command.main([]) == 1

    assert saved[0]["failures"] == {"lag on kvshim": "it hangs"}
    assert "Failed: lag on kvshim: it hangs" in capsys.readouterr().out


# --- what is read of a server


PAGE = """\
# TYPE kvshim_loop_lag_seconds histogram
kvshim_loop_lag_seconds_bucket{le="0.01"} %d
kvshim_loop_lag_seconds_bucket{le="0.02"} %d
kvshim_loop_lag_seconds_bucket{le="+Inf"} %d
kvshim_loop_lag_seconds_count 5
"""


def test_a_quantile_is_of_what_came_between_two_looks():
    name = "kvshim_loop_lag_seconds"
    before = histogram.buckets(PAGE % (100, 100, 100), name)
    seen = histogram.between(before, histogram.buckets(PAGE % (1090, 1100, 1100), name))

    assert histogram.count(seen) == 1000
    assert histogram.quantile(seen, 0.5) == pytest.approx(0.01 * 500 / 990)
    assert histogram.quantile(seen, 0.995) == pytest.approx(0.015)
    assert histogram.quantile(seen, 1.0) == pytest.approx(0.02)


def test_a_quantile_beyond_the_last_bound_is_that_bound_and_of_nothing_zero():
    seen = {0.01: 0.0, 0.02: 1.0, math.inf: 4.0}
    assert histogram.quantile(seen, 0.9) == 0.02
    assert histogram.quantile({0.01: 0.0, math.inf: 0.0}, 0.999) == 0.0


def test_a_page_without_the_histogram_is_refused():
    with pytest.raises(ValueError, match="no histogram kvshim_loop_lag_seconds"):
        histogram.buckets("", "kvshim_loop_lag_seconds")


@contextmanager
def child(code: str) -> Iterator[int]:
    import subprocess
    import sys

    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_wake_ups_and_cpu_of_a_process_are_seen():
    ticking = "import time; print(flush=True)\nwhile True: time.sleep(0.02)"
    sleeping = "import time; print(flush=True); time.sleep(60)"
    with child(ticking) as busy, child(sleeping) as idle:
        often, never = usage.idleness([busy, idle], 1.0)

    assert 10 < often.wakeups_per_second < 60
    assert never.wakeups_per_second <= 2
    assert never.cpu_percent <= 2
    assert never.rss_mib > 1


def test_growth_compares_the_end_with_the_second_fifth():
    rss = [500, 500, 100, 100, 1, 2, 3, 4, 120, 120]
    samples = [{"rss_mib": one, "wal_mib": 8.0, "file_mib": 0.0} for one in rss]

    found = growth(samples)

    assert found["hour_rss_growth"] == pytest.approx(1.2)
    assert found["hour_rss_mib"] == 120
    assert found["hour_wal_growth"] == 1.0
    assert found["hour_file_growth"] == 1.0, "nothing cannot grow"


# --- showing


def test_the_table_shows_goals_beside_figures():
    out = Console(record=True, width=120)
    report.print_table(both(), out)
    text = out.export_text()

    for cells in (
        ["create/s", "100", "250", "2.50", ">= 1.3x", "met"],
        ["25.0", "<= 20", "not met"],
    ):
        row = next(line for line in text.splitlines() if cells[0] in line)
        assert all(cell in row for cell in cells)
    assert "Goals met: 1 of 2." in text


def test_the_page_has_a_section_for_the_newest_of_each_name(tmp_path: Path):
    (tmp_path / "2026-11-01-before.json").write_text(
        json.dumps({"what": "one-node", "date": "2026-11-01T10:00:00+00:00"})
    )
    report.save(both("all", "2026-11-20T10:00:00+00:00"), tmp_path)
    report.save(both("all", "2026-11-21T10:00:00+00:00"), tmp_path)
    report.save(both("get", "2026-11-19T10:00:00+00:00"), tmp_path)

    page = (tmp_path / report.PAGE).read_text()

    assert page.count("| create/s | 100 | 250 | 2.50 | >= 1.3x | met |") == 2
    assert "## all, 2026-11-21" in page
    assert "## get, 2026-11-19" in page
    assert "![2026-11-21-all](2026-11-21-all.svg)" in page
    older = "[2026-11-20-all.json](2026-11-20-all.json), [2026-11-01-before.json]"
    assert f"Older: {older}" in page


def test_a_chart_has_a_bar_for_each_goal_and_ends_at_its_span():
    lines = figures.lines(both())
    lines.append(figures.Line(SMALLER, {"kvshim": 0.0}))

    svg = ET.fromstring(chart.margins(lines, "title"))

    bars = [one for one in svg.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert [bar.get("fill") for bar in bars] == [chart.MET, chart.NOT_MET, chart.MET]
    widths = [float(bar.get("width") or 0) for bar in bars]
    assert widths[2] == pytest.approx((chart.WIDTH - chart.LABEL - chart.NUMBERS) / 2)
    assert widths[0] > widths[1] > 0


def test_a_long_load_has_a_chart_over_time(tmp_path: Path):
    run = both("hour")
    samples = [{"seconds": 10.0 * n, "rss_mib": 60.0 + n, "wal_mib": 4.0} for n in range(5)]
    run["records"][1]["details"] = {"samples": samples}

    report.save(run, tmp_path)

    svg = ET.fromstring((tmp_path / "2026-11-20-hour-series.svg").read_text())
    lines = list(svg.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 3, "two series and the axis"
    assert "2026-11-20-hour-series.svg" in (tmp_path / report.PAGE).read_text()


def test_the_program_is_measured_as_an_installed_one_is_with_its_bytecode(tmp_path: Path):
    source = tmp_path / "kvshim" / "node.py"
    source.parent.mkdir()
    source.write_text("answer = 42\n")

    versions.Program.now(tmp_path).compile()

    assert Path(importlib.util.cache_from_source(str(source))).exists()


def test_sources_that_change_during_a_measurement_spoil_it(tmp_path: Path):
    source = tmp_path / "kvshim" / "node.py"
    source.parent.mkdir()
    source.write_text("before = 1\n")
    program = versions.Program.now(tmp_path)
    program.require_unchanged()

    source.write_text("after = 2\n")

    with pytest.raises(versions.VersionError, match="sources changed during the measurement"):
        program.require_unchanged()
