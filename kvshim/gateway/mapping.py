"""JSON to messages and back, as protobuf maps them and grpc-gateway is set up in etcd.

Bytes are base64, 64-bit integers are strings; names come in either spelling and go out as in the
.proto files; unknown names are ignored; fields with their default are left out. `json_format` does
the work, except that it takes anything for base64 and for a repeated name the last value.
Runs on any thread.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from kvshim.gateway.values import NotJson
from kvshim.lazy import Lazily

if TYPE_CHECKING:
    from google.protobuf import json_format
else:
    json_format = Lazily("google.protobuf.json_format")

DEPTH_MAX = 100
"""Of nested messages: transactions in transactions, above all."""


def parse(kind: type[Message], data: bytes) -> Message:
    """The message of the first JSON value in `data`, of which none is an empty message; NotJson.

    What follows the value is ignored, as in etcd.
    """
    message = kind()
    try:
        text = data.decode().lstrip(" \t\r\n")
        if not text:
            return message
        value, _ = _DECODER.raw_decode(text)
        if not isinstance(value, dict):
            raise NotJson(f"proto: syntax error (line 1:1): unexpected token {text[0]}")
        _check(message.DESCRIPTOR, value, DEPTH_MAX)  # type: ignore[arg-type]
        json_format.ParseDict(value, message, ignore_unknown_fields=True)
    except (ValueError, json_format.ParseError, TypeError) as error:
        raise NotJson(f"proto: {error}") from None
    except RecursionError:
        raise NotJson("proto: exceeded max recursion depth") from None
    return message


def to_json(message: Message) -> str:
    """A message as one line of JSON."""
    return compact(json_format.MessageToDict(message, preserving_proto_field_name=True))


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("duplicate field")
    return names


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"syntax error: invalid value {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _check(kind: Descriptor, value: object, depth_left: int) -> None:
    """ValueError if somewhere in an object bytes are no base64, or a field has both spellings."""
    if not isinstance(value, dict):
        return
    if not depth_left:
        raise ValueError("exceeded max recursion depth")
    seen: set[int] = set()
    for name, item in value.items():
        field = kind.fields_by_name.get(name) or kind.fields_by_camelcase_name.get(name)
        if field is None:
            continue
        if field.number in seen:
            raise ValueError(f"duplicate field {name}")
        seen.add(field.number)
        items: Iterable[Any] = item if isinstance(item, list) else (item,)
        for one in items:
            if field.message_type is not None:
                _check(field.message_type, one, depth_left - 1)
            elif field.type == FieldDescriptor.TYPE_BYTES and one is not None:
                _check_base64(name, one)


def _check_base64(name: str, value: object) -> None:
    """Of the standard or the URL alphabet, padded or not; a length of 4n must not need padding."""
    try:
        if not isinstance(value, str):
            raise ValueError
        text = value.replace("\r", "").replace("\n", "").encode("ascii")
        if b"-" in text or b"_" in text:
            if b"+" in text or b"/" in text:
                raise ValueError
            text = text.translate(_TO_STANDARD)
        if len(text) % 4 and b"=" in text:
            raise ValueError
        base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        shown = compact(value)
        raise ValueError(f"invalid value for bytes field {name}: {shown[:64]}") from None


_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
