"""Reading values the way Go's `flag` package does, so that what etcd accepts is accepted.

Pure functions. Each raises ValueError with the reason only; the caller adds the name of the flag,
the variable or the key that carried the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # Greek mu: Go takes both
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DIGITS = re.compile(r"[0-9][0-9a-zA-Z_]*")
_BASES = {"0x": 16, "0o": 8, "0b": 2}


def parse_bool(text: str) -> bool:
    """Go's `strconv.ParseBool`: 1, t, true and their opposites; `yes` is not a bool."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("expected true or false")


def parse_int(text: str, low: int, high: int) -> int:
    """A whole number in Go's base-0 notation (0x, 0o, 0b, leading 0, underscores)."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    base = _BASES.get(digits[:2].lower(), 10)
    if base == 10 and len(digits) > 1 and digits.startswith("0"):
        base = 8
    try:
        if not _DIGITS.fullmatch(digits):  # int() itself would take spaces and other scripts
            raise ValueError
        value = sign * int(digits, base)
    except ValueError:
        raise ValueError("expected a whole number") from None
    if not low <= value <= high:
        raise ValueError(f"expected a whole number from {low} to {high}")
    return value


def parse_duration(text: str) -> int:
    """A duration such as `100ms`, `1.5h` or `5m0s`, in nanoseconds. `0` needs no unit."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, position = Fraction(0), 0
    for part in _DURATION_PART.finditer(rest):
        if part.start() != position:
            break
        total += Fraction(part[1]) * _NANOSECONDS[part[2]]
        position = part.end()
    if position == 0 or position != len(rest):
        raise ValueError("expected a duration with a unit, such as 100ms, 5s or 10m")
    if total >= 2**63:
        raise ValueError("expected a duration below 292 years")
    return sign * int(total)


def parse_strings(text: str) -> tuple[str, ...]:
    """A comma-separated list; nothing at all is the empty list."""
    return tuple(text.split(",")) if text else ()


def parse_gates(text: str, known: Mapping[str, bool]) -> dict[str, bool]:
    """`Name=true,Other=false` into a mapping; only names in `known` are accepted."""
    gates: dict[str, bool] = {}
    for item in filter(None, text.split(",")):
        name, separator, value = (part.strip() for part in item.partition("="))
        if not separator:
            raise ValueError(f"missing bool value for {name}")
        if name not in known:
            raise ValueError(f"unrecognized feature gate: {name}")
        try:
            gates[name] = parse_bool(value)
        except ValueError as error:
            raise ValueError(f"{name}={value}: {error}") from None
    return gates
