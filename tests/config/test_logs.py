"""Log lines: etcd's fields, stable texts, and nothing spent on levels that are off."""

from __future__ import annotations

import json
import re
import sys
import timeit
from pathlib import Path

import pytest

from kvshim.config import ConfigError, LogConfig, LogFormat, LogLevel, LogRotation, Scheme, Url
from kvshim.logrotate import RotatingFile
from kvshim.logs import Event, open_logger


@pytest.fixture
def log_file(tmp_path):
    return tmp_path / "node.log"


def open_to(path: Path, level=LogLevel.INFO, form=LogFormat.JSON, rotation=None):
    return open_logger(LogConfig(level, form, (str(path),), rotation))


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_has_etcds_fields_in_etcds_order(log_file):
    open_to(log_file).info(Event.READY, revision=7, took="1ms")
    [line] = lines_of(log_file)
    assert list(line) == ["level", "ts", "msg", "revision", "took"]
    assert line["level"] == "info"
    assert line["msg"] == Event.READY.value
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line["ts"]))


def test_levels_are_named_as_zap_names_them(log_file):
    log = open_to(log_file, LogLevel.DEBUG)
    log.debug("a")
    log.info("a")
    log.warn("a")
    log.error("a")
    assert [line["level"] for line in lines_of(log_file)] == ["debug", "info", "warn", "error"]


def test_a_level_below_the_chosen_one_is_not_written(log_file):
    log = open_to(log_file, LogLevel.WARN)
    log.debug(Event.READY)
    log.info(Event.READY)
    log.warn(Event.SLOW_FSYNC)
    assert [line["msg"] for line in lines_of(log_file)] == [Event.SLOW_FSYNC]


def test_a_level_that_is_off_costs_next_to_nothing(log_file):
    log = open_to(log_file)
    one_s = min(timeit.repeat(lambda: log.debug(Event.READY, a=1), number=10_000, repeat=5)) / 1e4
    assert one_s < 5e-6
    assert log_file.read_bytes() == b""


def test_values_of_all_kinds_are_written(log_file):
    open_to(log_file).info(
        Event.READY,
        url=Url(Scheme.HTTPS, "::1", 2379),
        path=Path("/d"),
        key=b"/registry/\xff",
        error=OSError(28, "No space left on device"),
        names=frozenset({"b", "a"}),
        other=complex(1, 2),
    )
    [line] = lines_of(log_file)
    assert line["url"] == "https://[::1]:2379"
    assert line["path"] == "/d"
    assert line["key"] == "/registry/\\xff"
    assert line["error"] == "[Errno 28] No space left on device"
    assert line["names"] == ["a", "b"]
    assert line["other"] == "(1+2j)"


def test_a_field_never_hides_level_time_or_text(log_file):
    open_to(log_file).info(Event.READY, level="x", ts="x", msg="x")
    [line] = lines_of(log_file)
    assert (line["level"], line["msg"]) == ("info", Event.READY)
    assert line["ts"] != "x"


def test_text_that_is_no_unicode_is_still_one_line(log_file):
    open_to(log_file).info("lone \ud800 surrogate", line="a\nb")
    [line] = log_file.read_bytes().splitlines()
    assert b"\\ud800" in line


def test_a_bound_logger_adds_its_fields(log_file):
    open_to(log_file).bind(member="a").info(Event.READY, n=1)
    [line] = lines_of(log_file)
    assert line["member"] == "a"


def test_an_exception_is_written_with_its_traceback(log_file):
    log = open_to(log_file)
    try:
        raise RuntimeError("broken invariant")
    except RuntimeError:
        log.error(Event.HANDLER_FAILED, exc_info=True)
    [line] = lines_of(log_file)
    assert "broken invariant" in str(line["exception"])


def test_the_console_form_is_for_people(log_file):
    log = open_to(log_file, form=LogFormat.CONSOLE)
    log.warn(Event.SLOW_FSYNC, took="1.2s", key=b"\xff")
    [line] = log_file.read_text().splitlines()
    assert "warn" in line
    assert "slow fdatasync" in line
    assert "took=1.2s" in line


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_a_terminal_gets_colours_for_every_level(level, monkeypatch, capfdbinary):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    log = open_logger(LogConfig(LogLevel.DEBUG, LogFormat.CONSOLE, ("stderr",)))
    getattr(log, level)(Event.READY)
    assert b"\x1b[" in capfdbinary.readouterr().err


def test_all_outputs_get_every_line(tmp_path):
    names = (str(tmp_path / "a"), str(tmp_path / "b"))
    open_logger(LogConfig(LogLevel.INFO, LogFormat.JSON, names)).info(Event.READY)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != b""


def test_a_file_that_cannot_be_opened_is_one_sentence():
    with pytest.raises(ConfigError, match="cannot open the log file /no/such/dir/a: No such file"):
        open_to(Path("/no/such/dir/a"))


def test_a_full_disk_loses_lines_but_not_the_node():
    log = open_to(Path("/dev/full"))
    log.info(Event.READY)
    log.info(Event.READY)


def rotation(**changes):
    fields = {"size_bytes_max": 1000, "age_days_max": 0, "backups_max": 0,
              "local_time": False, "compress": False}  # fmt: skip
    return LogRotation(**{**fields, **changes})


def test_a_full_file_is_put_aside_and_no_line_is_lost(tmp_path):
    log = open_to(tmp_path / "node.log", rotation=rotation())
    for number in range(50):
        log.info(Event.READY, number=number)
    files = sorted(tmp_path.glob("node*.log"))
    assert len(files) > 3
    assert all(file.stat().st_size <= 1000 for file in files)
    written = sorted(line["number"] for file in files for line in lines_of(file))
    assert written == list(range(50))


def test_old_files_are_dropped_beyond_their_count_and_packed(tmp_path):
    file = RotatingFile(tmp_path / "node.log", rotation(backups_max=2, compress=True))
    for _ in range(10):
        file.write(b"x" * 600)
        file.write(b"y" * 600)
        file.wait_until_tidy()
    backups = sorted(path.name for path in tmp_path.iterdir() if path.name != "node.log")
    assert len(backups) == 2
    assert all(name.endswith(".log.gz") for name in backups)


def test_other_files_in_the_directory_are_left_alone(tmp_path):
    other = tmp_path / "node-notes.log"
    other.write_bytes(b"mine")
    file = RotatingFile(tmp_path / "node.log", rotation(backups_max=1))
    for _ in range(5):
        file.write(b"x" * 900)
        file.wait_until_tidy()
    assert other.read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_files_too_old_are_dropped(tmp_path):
    import os

    file = RotatingFile(tmp_path / "node.log", rotation(age_days_max=1))
    file.write(b"x" * 900)
    file.write(b"x" * 900)
    file.wait_until_tidy()
    [backup] = [path for path in tmp_path.iterdir() if path.name != "node.log"]
    os.utime(backup, (0, 0))
    file.write(b"x" * 900)
    file.wait_until_tidy()
    assert not backup.exists()


def test_a_file_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "node.log"
    path.write_bytes(b"x" * 990)
    RotatingFile(path, rotation()).write(b"y" * 20)
    assert path.read_bytes() == b"y" * 20
