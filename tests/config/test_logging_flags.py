"""The logging flags, as etcd reads them."""

from __future__ import annotations

import pytest

from kvshim.config import LogFormat, LogLevel, LogRotation, NoticeKind
from tests.config.helpers import config_of, notices_of, refusal


@pytest.mark.parametrize(
    ("text", "level"),
    [("debug", LogLevel.DEBUG), ("info", LogLevel.INFO), ("WARN", LogLevel.WARN),
     ("warning", LogLevel.WARN), ("error", LogLevel.ERROR), ("panic", LogLevel.FATAL),
     ("fatal", LogLevel.FATAL), ("", LogLevel.INFO)],
)  # fmt: skip
def test_levels_are_zaps(text, level):
    assert config_of([f"--log-level={text}"]).log.level is level


def test_formats_are_json_and_console():
    assert config_of(["--log-format=console"]).log.format is LogFormat.CONSOLE
    assert config_of(["--log-format="]).log.format is LogFormat.JSON


@pytest.mark.parametrize(
    ("text", "outputs"),
    [("default", ("stderr",)), ("stdout", ("stdout",)), ("/b,stderr,/a", ("/a", "/b", "stderr")),
     ("stderr,/dev/null", ("/dev/null",)), ("systemd/journal", ("stderr",))],
)  # fmt: skip
def test_outputs_are_streams_and_files(text, outputs):
    assert config_of([f"--log-outputs={text}"]).log.outputs == outputs


def test_the_journal_is_reached_by_stderr():
    [notice] = notices_of(["--log-outputs=systemd/journal"])
    assert notice.kind is NoticeKind.ADVICE
    assert "stderr" in notice.reason


def test_rotation_is_of_one_file():
    argv = ["--enable-log-rotation", "--log-outputs=stderr,/a.log"]
    assert config_of(argv).log.rotation == LogRotation(100 * 1024 * 1024, 0, 0, False, False)
    json = '{"maxsize": 1, "maxage": 2, "maxbackups": 3, "localtime": true, "compress": true}'
    rotation = config_of([*argv, f"--log-rotation-config-json={json}"]).log.rotation
    assert rotation == LogRotation(1024 * 1024, 2, 3, True, True)


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--logger=capnslog"], "only zap is known"),
        (["--log-level=loud"], 'unknown --log-level "loud"'),
        (["--log-format=xml"], 'unknown --log-format "xml"'),
        (["--log-outputs=default,/a"], "takes default alone"),
        (["--log-outputs=/a,"], "empty path"),
        (["--enable-log-rotation"], "exactly one file"),
        (["--enable-log-rotation", "--log-outputs=/a,/b"], "exactly one file"),
        (["--enable-log-rotation", "--log-outputs=/a", "--log-rotation-config-json={"],
         "not valid JSON"),
        (["--enable-log-rotation", "--log-outputs=/a", "--log-rotation-config-json=[]"],
         "must be an object"),
        (["--enable-log-rotation", "--log-outputs=/a",
          '--log-rotation-config-json={"maxsize": "big"}'], "maxsize"),
        (["--enable-log-rotation", "--log-outputs=/a",
          '--log-rotation-config-json={"compress": 1}'], "compress"),
    ],
)  # fmt: skip
def test_a_wrong_logging_flag_is_refused(argv, part):
    assert part in str(refusal(argv))
