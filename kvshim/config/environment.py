"""The environment: `ETCD_*` (and `KVSHIM_*` for our own flags) stand in for flags not given.

By etcd's rules: an empty variable is no variable, a variable beside its own flag is an error, an
unknown `ETCD_*` variable is a warning. Works on a mapping that the caller passes in.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvshim.config.errors import ConfigError
from kvshim.config.settings import Notice, NoticeKind, Settings, Source, value_error
from kvshim.config.tables import BY_NAME, env_name

_BY_VARIABLE = {env_name(flag): flag for flag in BY_NAME.values()}
_SPECIAL = frozenset({"ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH"})
_PREFIXES = ("ETCD_", "KVSHIM_")

CONFIG_FILE_VARIABLE = "ETCD_CONFIG_FILE"


def given_variables(environ: Mapping[str, str]) -> list[str]:
    """The variables that would set a flag, sorted."""
    return sorted(name for name in _BY_VARIABLE if environ.get(name) and name not in _SPECIAL)


def apply_environment(settings: Settings, environ: Mapping[str, str]) -> list[Notice]:
    """Fill flags not given on the command line; ConfigError on a conflict or a bad value."""
    notices: list[Notice] = []
    for variable in sorted(environ):
        if not variable.startswith(_PREFIXES):
            continue
        flag, text = _BY_VARIABLE.get(variable), environ[variable]
        if variable in _SPECIAL or flag is None:
            if variable != "ETCD_UNSUPPORTED_ARCH":
                notices.append(_unrecognized(variable))
            continue
        if settings.sources.get(flag.name) is Source.FLAG:
            raise ConfigError(
                f"{variable} is set and --{flag.name} is given: unset one of them,"
                " since only one can count"
            )
        if text:
            try:
                settings.give(flag, text, Source.ENVIRONMENT)
            except ValueError as reason:
                raise value_error(variable, text, reason) from None
    return notices


def _unrecognized(variable: str) -> Notice:
    if variable == "ETCD_VERSION":
        return Notice(
            NoticeKind.UNRECOGNIZED_VARIABLE, variable, "the version cannot be set, only asked for"
        )
    return Notice(
        NoticeKind.UNRECOGNIZED_VARIABLE, variable, "no flag has this name, so it is ignored"
    )
