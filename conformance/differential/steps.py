"""What a sequence is made of: steps, as plain data that is read and written as JSON.

A step is a dict. `{"call": "KV/Put", "request": {...}}` is a call; the other kinds are listed in
`run.py`. A request has the message's own field names; bytes are strings of the characters 0 to 255.
What is only known while it runs stands as a dict with one key that begins with `$`:

    {"$now": -2}     the newest revision that an answer told, and so much more
    {"$base": 3}     the revision at the sequence's start, and so much more
    {"$lease": 0}    the lease that the server chose the id of, by the order they were granted in
    {"$leader": 0}   the LeaderKey of a campaign that was won, in order
    {"$member": 0}   the server's own id; 1 and more: of the members added, in order
    {"$compacted": 1}  the revision of the compaction before the last one
    {"$text": 500}   so many bytes
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Step: TypeAlias = dict[str, Any]
Sequence: TypeAlias = list[Step]

UNKNOWN = 7777
"""Stands for what a reference names and this run has not seen."""


@dataclass(slots=True)
class Known:
    """What references stand for in one run on one server."""

    base: int = 0
    now: int = 0
    leases: list[int] = field(default_factory=list)
    leaders: list[Message] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    compactions: list[int] = field(default_factory=list)

    def resolve(self, reference: str, operand: int) -> Any:
        match reference:
            case "$now":
                return self.now + operand
            case "$base":
                return self.base + operand
            case "$text":
                return b"x" * operand
            case "$lease":
                return _at(self.leases, operand, UNKNOWN)
            case "$leader":
                return _at(self.leaders, operand, {})
            case "$compacted":
                return _at(self.compactions[::-1], operand, self.base)
            case "$member":
                return _at(self.members, operand, UNKNOWN)
        raise ValueError(f"no reference {reference}")


def _at(found: list[Any], index: int, otherwise: object) -> Any:
    return found[index] if index < len(found) else otherwise


def message(kind: type[Message], data: dict[str, Any], known: Known) -> Message:
    """The request that a step describes."""
    return kind(**_fields(kind.DESCRIPTOR, data, known))  # type: ignore[arg-type]


def _fields(kind: Descriptor, data: dict[str, Any], known: Known) -> dict[str, Any]:
    readers = _readers(kind)
    return {name: _value(readers[name], value, known) for name, value in data.items()}


def _value(reader: tuple[bool, Descriptor | None], value: Any, known: Known) -> Any:
    is_bytes, nested = reader
    if isinstance(value, list):
        return [_value(reader, item, known) for item in value]
    if isinstance(value, str):
        return value.encode("latin-1") if is_bytes else value
    if isinstance(value, dict):
        if reference := next((name for name in value if name.startswith("$")), None):
            return known.resolve(reference, value[reference])
        assert nested is not None
        return _fields(nested, value, known)
    return value


@cache
def _readers(kind: Descriptor) -> dict[str, tuple[bool, Descriptor | None]]:
    return {
        found.name: (found.type == FieldDescriptor.TYPE_BYTES, found.message_type)
        for found in kind.fields
    }


def load(path: Path) -> Sequence:
    """The sequence in a file."""
    steps: Sequence = json.loads(path.read_text())["steps"]
    return steps


def dump(steps: Sequence, why: str) -> str:
    """A sequence as a file: a line a step, so that it is read and compared easily."""
    lines = ",\n".join(f"    {json.dumps(step)}" for step in steps)
    return f'{{\n  "why": {json.dumps(why)},\n  "steps": [\n{lines}\n  ]\n}}\n'


def parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a step with each key or index of it, innermost last."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list):
            yield from parts(item)
