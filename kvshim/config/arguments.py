"""The command line, read as Go's `flag` package reads it.

`-name value`, `--name value`, `-name=value`; a bool may stand alone but takes its value by `=`
only; `--` ends the flags; the last of repeated flags wins, feature gates add up. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvshim.config.errors import UsageError
from kvshim.config.flag import Flag, Kind
from kvshim.config.settings import Settings, Source
from kvshim.config.tables import BY_NAME, nearest

_HELP = frozenset({"h", "help"})


@dataclass(frozen=True, slots=True)
class Parsed:
    settings: Settings
    wants_help: bool = False


def parse_arguments(argv: Sequence[str]) -> Parsed:
    """Read the arguments after the program's name; UsageError says what is wrong with them."""
    settings = Settings()
    rest = list(argv)
    last_switch: str | None = None
    while rest:
        argument = rest.pop(0)
        if len(argument) < 2 or not argument.startswith("-"):
            raise UsageError(_stray(argument, last_switch))
        if argument == "--":
            if rest:
                raise UsageError(_stray(rest[0], None))
            break
        name, separator, text = argument.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {argument}")
        if name in _HELP:
            return Parsed(settings, wants_help=True)
        flag = BY_NAME.get(name)
        if flag is None:
            raise UsageError(_unknown(name))
        if not separator and not flag.takes_no_value:
            if not rest:
                raise UsageError(f"flag needs an argument: --{name}")
            text = rest.pop(0)
        last_switch = name if flag.takes_no_value and not separator else None
        _give(settings, flag, text if separator or not flag.takes_no_value else "true")
    return Parsed(settings)


def _give(settings: Settings, flag: Flag, text: str) -> None:
    if flag.kind is Kind.GATES and settings.given(flag.name):
        text = f"{settings.text(flag.name)},{text}"
    try:
        settings.give(flag, text, Source.FLAG)
    except ValueError as reason:
        raise UsageError(f'invalid value "{text}" for --{flag.name}: {reason}') from None


def _unknown(name: str) -> str:
    guess = nearest(name)
    hint = f"did you mean --{guess}?" if guess else "see kvshim --help for all flags"
    return f"unknown flag --{name}: {hint}"


def _stray(argument: str, last_switch: str | None) -> str:
    if last_switch is not None:
        return f'"{argument}" is not a flag: write --{last_switch}={argument} to give it a value'
    return f'"{argument}" is not a flag or a command: see kvshim --help'
