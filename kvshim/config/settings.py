"""The settings as given: one text per flag, where it came from, and typed access by name.

A `Settings` is filled by `arguments`, `environment` or `config_file`, and read by `build` and
`checks`. Texts are checked when they are set, so reading them never fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from kvshim.config.errors import ConfigError
from kvshim.config.flag import Flag, check_text, int_value
from kvshim.config.gates import KNOWN_GATES
from kvshim.config.tables import BY_NAME, env_name
from kvshim.config.url import Url, parse_urls
from kvshim.config.values import parse_bool, parse_duration, parse_gates, parse_strings


class Source(Enum):
    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "config file"


class NoticeKind(Enum):
    """What is told about settings that do not stop the node."""

    NO_EFFECT = "no effect"
    RENAMED = "renamed"
    UNRECOGNIZED_VARIABLE = "unrecognized variable"
    UNRECOGNIZED_KEY = "unrecognized key"
    IGNORED_FOR_FILE = "ignored for the config file"
    ADVICE = "advice"


@dataclass(frozen=True, slots=True)
class Notice:
    """One warning: `name` is a flag, a variable or a key; `reason` completes the sentence."""

    kind: NoticeKind
    name: str
    reason: str


@dataclass(slots=True)
class Settings:
    """Texts by flag name. Anything not given reads as its default."""

    texts: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    allowed_cns: tuple[str, ...] = ()
    """`allowed-cn` of client-transport-security: a config-file key that is no flag."""

    def give(self, flag: Flag, text: str, source: Source) -> None:
        """Set a flag's text; ValueError carries the reason if it is no value for the flag."""
        check_text(flag, text)
        self.texts[flag.name] = text
        self.sources[flag.name] = source

    def given(self, name: str) -> bool:
        return name in self.texts

    def spelled(self, name: str) -> str:
        """The setting as its giver spelled it: `--flag`, the variable or the key."""
        match self.sources.get(name):
            case Source.ENVIRONMENT:
                return env_name(BY_NAME[name])
            case _:
                return f"--{name}"

    def text(self, name: str) -> str:
        return self.texts.get(name, BY_NAME[name].default)

    def flag(self, name: str) -> bool:
        return parse_bool(self.text(name))

    def number(self, name: str) -> int:
        return int_value(BY_NAME[name], self.text(name))

    def nanoseconds(self, name: str) -> int:
        return parse_duration(self.text(name))

    def seconds(self, name: str) -> float:
        return self.nanoseconds(name) / 1e9

    def urls(self, name: str) -> tuple[Url, ...]:
        """A URL list; given as empty, etcd keeps the flag's own default, and so do we."""
        text = self.text(name) or BY_NAME[name].default
        return parse_urls(text) if text else ()

    def strings(self, name: str) -> tuple[str, ...]:
        return parse_strings(self.text(name))

    def unique_strings(self, name: str) -> tuple[str, ...]:
        return tuple(sorted(set(self.strings(name))))

    def gates(self) -> dict[str, bool]:
        return parse_gates(self.text("feature-gates"), KNOWN_GATES)


def value_error(spelled: str, text: str, reason: ValueError) -> ConfigError:
    return ConfigError(f'invalid value "{text}" for {spelled}: {reason}')
