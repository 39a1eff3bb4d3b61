"""The logging flags, read into a `LogConfig`. Pure: no file is opened here."""

from __future__ import annotations

import json

from kvshim.config.errors import ConfigError
from kvshim.config.model import LogConfig, LogFormat, LogLevel, LogRotation
from kvshim.config.settings import Notice, NoticeKind, Settings

_LEVELS = {
    "debug": LogLevel.DEBUG,
    "info": LogLevel.INFO,
    "": LogLevel.INFO,
    "warn": LogLevel.WARN,
    "warning": LogLevel.WARN,
    "error": LogLevel.ERROR,
    "dpanic": LogLevel.FATAL,
    "panic": LogLevel.FATAL,
    "fatal": LogLevel.FATAL,
}
_STREAMS = frozenset({"stderr", "stdout"})
_JOURNAL = "systemd/journal"
DEV_NULL = "/dev/null"


def build_logs(settings: Settings, notices: list[Notice]) -> LogConfig:
    logger = settings.text("logger")
    if logger != "zap":
        raise ConfigError(f'unknown --logger "{logger}": only zap is known, and needs no flag')
    outputs = _outputs(settings, notices)
    return LogConfig(_level(settings), _format(settings), outputs, _rotation(settings, outputs))


def _level(settings: Settings) -> LogLevel:
    text = settings.text("log-level")
    level = _LEVELS.get(text.lower())
    if level is None:
        raise ConfigError(
            f'unknown --log-level "{text}": expected debug, info, warn, error, panic or fatal'
        )
    return level


def _format(settings: Settings) -> LogFormat:
    text = settings.text("log-format") or LogFormat.JSON.value
    try:
        return LogFormat(text)
    except ValueError:
        raise ConfigError(f'unknown --log-format "{text}": expected json or console') from None


def _outputs(settings: Settings, notices: list[Notice]) -> tuple[str, ...]:
    given = settings.unique_strings("log-outputs") or ("default",)
    if len(given) > 1 and "default" in given:
        raise ConfigError("--log-outputs takes default alone: name stderr or stdout instead")
    if "" in given:
        raise ConfigError("--log-outputs names an empty path")
    if DEV_NULL in given:
        return (DEV_NULL,)
    if _JOURNAL in given:
        reason = f"{_JOURNAL} is taken for stderr, which systemd passes on to its journal"
        notices.append(Notice(NoticeKind.ADVICE, "--log-outputs", reason))
    renamed = {"default": "stderr", _JOURNAL: "stderr"}
    return tuple(sorted({renamed.get(output, output) for output in given}))


def _rotation(settings: Settings, outputs: tuple[str, ...]) -> LogRotation | None:
    if not settings.flag("enable-log-rotation"):
        return None
    if len([output for output in outputs if output not in _STREAMS]) != 1:
        raise ConfigError("--enable-log-rotation needs exactly one file in --log-outputs")
    text = settings.text("log-rotation-config-json")
    try:
        fields: object = json.loads(text)
    except ValueError:
        raise ConfigError(f"--log-rotation-config-json is not valid JSON: {text}") from None
    if not isinstance(fields, dict):
        raise ConfigError("--log-rotation-config-json must be an object, such as {}")
    return LogRotation(
        size_bytes_max=(_whole(fields, "maxsize") or 100) * 1024 * 1024,
        age_days_max=_whole(fields, "maxage"),
        backups_max=_whole(fields, "maxbackups"),
        local_time=_switch(fields, "localtime"),
        compress=_switch(fields, "compress"),
    )


def _whole(fields: dict[str, object], name: str) -> int:
    value = fields.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{name} in --log-rotation-config-json must be a whole number")
    return value


def _switch(fields: dict[str, object], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{name} in --log-rotation-config-json must be true or false")
    return value
