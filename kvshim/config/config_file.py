"""`--config-file`: a YAML file with etcd's keys, which stands in for flags and environment.

Keys are the names of flags; TLS files lie in `client-transport-security` and
`peer-transport-security`, socket options in `socket-options`. Durations are whole nanoseconds, as
in etcd, or texts such as "10m", which etcd does not take. Reads the one file it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kvshim.config.errors import ConfigError
from kvshim.config.flag import Flag, Kind
from kvshim.config.settings import Notice, NoticeKind, Settings, Source, value_error
from kvshim.config.tables import BY_NAME, nearest
from kvshim.lazy import Lazily

if TYPE_CHECKING:
    import yaml
else:
    yaml = Lazily("yaml")

_CLIENT_TLS = "client-transport-security"
_PEER_TLS = "peer-transport-security"

_SECTIONS: Mapping[str, Mapping[str, str]] = {
    _CLIENT_TLS: {
        "cert-file": "cert-file",
        "key-file": "key-file",
        "client-cert-file": "client-cert-file",
        "client-key-file": "client-key-file",
        "client-cert-auth": "client-cert-auth",
        "trusted-ca-file": "trusted-ca-file",
        "auto-tls": "auto-tls",
        "allowed-hostname": "client-cert-allowed-hostname",
    },
    _PEER_TLS: {
        "cert-file": "peer-cert-file",
        "key-file": "peer-key-file",
        "client-cert-file": "peer-client-cert-file",
        "client-key-file": "peer-client-key-file",
        "client-cert-auth": "peer-client-cert-auth",
        "trusted-ca-file": "peer-trusted-ca-file",
        "auto-tls": "peer-auto-tls",
        "allowed-cn": "peer-cert-allowed-cn",
        "allowed-hostname": "peer-cert-allowed-hostname",
        "skip-client-san-verification": "peer-skip-client-san-verification",
    },
    "socket-options": {"reuse-port": "socket-reuse-port", "reuse-address": "socket-reuse-address"},
    "discovery-config": {"token": "discovery-token", "endpoints": "discovery-endpoints"},
}
_SECTION_OF = {flag: section for section, keys in _SECTIONS.items() for flag in keys.values()}
_NEVER_KEYS = frozenset({"config-file", "version"})


def load_config_file(path: Path) -> tuple[Settings, list[Notice]]:
    """Read the file; ConfigError names the file and what is wrong in it."""
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"the config file {path} is not valid YAML: {problem}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"the config file {path} must hold keys and values, such as 'name: a'")
    return _Reader(path).read(document)


class _Reader:
    """Walks one document; keeps the path for messages and collects settings and notices."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._settings = Settings()
        self._notices: list[Notice] = []

    def read(self, document: Mapping[object, object]) -> tuple[Settings, list[Notice]]:
        for key, value in document.items():
            name = str(key)
            if name in _SECTIONS:
                self._section(name, value)
            elif name in BY_NAME and name not in _SECTION_OF and name not in _NEVER_KEYS:
                self._give(name, BY_NAME[name], value)
            else:
                self._unrecognized(name, _hint(name))
        return self._settings, self._notices

    def _section(self, section: str, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise ConfigError(f"{section} in {self._path} must hold keys and values")
        keys = _SECTIONS[section]
        for key, item in value.items():
            name = f"{section}.{key}"
            if key in keys:
                self._give(name, BY_NAME[keys[key]], item)
            elif section == _CLIENT_TLS and key == "allowed-cn":
                self._settings.allowed_cns = tuple(filter(None, _text(name, item).split(",")))
            else:
                self._unrecognized(name, "etcd has no such key")

    def _give(self, key: str, flag: Flag, value: object) -> None:
        if value is None:
            return
        text = _text(key, value)
        if flag.kind is Kind.DURATION and isinstance(value, int):
            text = f"{value}ns"
        try:
            self._settings.give(flag, text, Source.FILE)
        except ValueError as reason:
            raise value_error(f"{key} in {self._path}", text, reason) from None

    def _unrecognized(self, key: str, hint: str) -> None:
        self._notices.append(Notice(NoticeKind.UNRECOGNIZED_KEY, key, hint))


def _hint(name: str) -> str:
    if name in _SECTION_OF:
        return f"it belongs under {_SECTION_OF[name]}"
    if name in _NEVER_KEYS:
        return "it belongs on the command line"
    guess = nearest(name)
    return f"did you mean {guess}?" if guess else "no setting has this name"


def _text(key: str, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(_text(key, item) for item in value)
        case dict():
            raise ConfigError(f"{key} must be a single value or a list")
        case _:
            return str(value)
