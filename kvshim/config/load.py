"""The whole way from a command line to a `Config`, in etcd's order of precedence.

Flags stand above the environment; a config file replaces both. Reads the config file and looks
whether the data directory is empty; nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvshim.config.arguments import parse_arguments
from kvshim.config.build import build
from kvshim.config.checks import check
from kvshim.config.config_file import load_config_file
from kvshim.config.dispositions import settle
from kvshim.config.environment import CONFIG_FILE_VARIABLE, apply_environment, given_variables
from kvshim.config.model import Config
from kvshim.config.settings import Notice, NoticeKind, Settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be run, and the warnings to log once logging is up."""

    config: Config
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class HelpWanted:
    """`--help` was among the arguments."""


@dataclass(frozen=True, slots=True)
class VersionWanted:
    """`--version` was among the arguments."""


Outcome = Loaded | HelpWanted | VersionWanted


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Outcome:
    """Read everything; UsageError or ConfigError carries one sentence for the operator."""
    parsed = parse_arguments(argv)
    if parsed.wants_help:
        return HelpWanted()
    if parsed.settings.flag("version"):
        return VersionWanted()
    settings, notices = _gather(parsed.settings, environ)
    notices += settle(settings)
    config = build(settings, notices)
    notices += check(config, settings)
    return Loaded(config, tuple(notices))


def _gather(settings: Settings, environ: Mapping[str, str]) -> tuple[Settings, list[Notice]]:
    path = settings.text("config-file") or environ.get(CONFIG_FILE_VARIABLE, "")
    if not path:
        return settings, apply_environment(settings, environ)
    from_file, notices = load_config_file(Path(path))
    ignored = [f"--{name}" for name in settings.texts if name != "config-file"]
    ignored += [name for name in given_variables(environ) if name != CONFIG_FILE_VARIABLE]
    if ignored:
        reason = f"the config file {path} is the only source of settings"
        notices.insert(0, Notice(NoticeKind.IGNORED_FOR_FILE, ", ".join(ignored), reason))
    return from_file, notices
