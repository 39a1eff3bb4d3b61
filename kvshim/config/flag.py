"""What a row of the flag tables is: a name, its kind and default, and what kvshim does with it.

Pure data. The tables are `etcd_server_flags` and `etcd_other_flags` (every flag of etcd 3.7),
`retired_flags` (flags that etcd 3.5 and 3.6 had) and `extra_flags` (ours alone).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import assert_never

from kvshim.config.gates import KNOWN_GATES
from kvshim.config.url import parse_urls
from kvshim.config.values import parse_bool, parse_duration, parse_gates, parse_int


class Kind(Enum):
    """How the text of a value is read; the numbers have the widths of Go's types."""

    STRING = "string"
    BOOL = "bool"
    INT = "int"
    UINT = "uint"
    INT64 = "int64"
    UINT64 = "uint64"
    UINT32 = "uint32"
    DURATION = "duration"
    URLS = "URL list"
    ORIGINS = "URL list or *"
    STRINGS = "list"
    CHOICE = "choice"
    GATES = "Name=bool list"
    IGNORED = "ignored"


class Disposition(Enum):
    """What kvshim does when the flag is given."""

    OBEYED = "obeyed"
    ACCEPTED = "accepted, without effect"
    REFUSED = "refused"


class Section(StrEnum):
    """etcd's own headings, in the order of its help; the last one is ours."""

    MEMBER = "Member"
    CLUSTERING = "Clustering"
    SECURITY = "Security"
    AUTH = "Auth"
    MONITORING = "Profiling and monitoring"
    LOGGING = "Logging"
    TRACING = "Distributed tracing"
    FEATURES = "Features"
    UNSAFE = "Unsafe"
    RETIRED = "Retired by etcd"
    KVSHIM = "kvshim only"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    `note` completes the warning of an accepted flag (why it has no effect) or the error of a
    refused one (what to do instead). Giving a refused flag its own default asks for nothing and
    passes.
    """

    section: Section
    name: str
    kind: Kind
    default: str
    disposition: Disposition
    help: str
    note: str = ""
    choices: tuple[str, ...] = ()

    @property
    def takes_no_value(self) -> bool:
        """True for flags that may stand alone: `--b` is `--b=true`."""
        return self.kind in (Kind.BOOL, Kind.IGNORED)


_WIDTHS = {
    Kind.INT: (-(2**63), 2**63 - 1),
    Kind.INT64: (-(2**63), 2**63 - 1),
    Kind.UINT: (0, 2**64 - 1),
    Kind.UINT64: (0, 2**64 - 1),
    Kind.UINT32: (0, 2**32 - 1),
}


def check_text(flag: Flag, text: str) -> None:
    """Raise ValueError with the reason if `text` is no value for `flag`."""
    match flag.kind:
        case Kind.STRING | Kind.STRINGS | Kind.IGNORED:
            pass
        case Kind.BOOL:
            parse_bool(text)
        case Kind.INT | Kind.UINT | Kind.INT64 | Kind.UINT64 | Kind.UINT32:
            parse_int(text, *_WIDTHS[flag.kind])
        case Kind.DURATION:
            parse_duration(text)
        case Kind.URLS | Kind.ORIGINS:
            if text and not (text == "*" and flag.kind is Kind.ORIGINS):
                parse_urls(text)
        case Kind.CHOICE:
            if text not in flag.choices:
                raise ValueError("expected " + " or ".join(flag.choices))
        case Kind.GATES:
            parse_gates(text, KNOWN_GATES)
        case _:
            assert_never(flag.kind)


def int_value(flag: Flag, text: str) -> int:
    return parse_int(text, *_WIDTHS[flag.kind])
