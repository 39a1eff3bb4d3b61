"""A call's request headers, checked and understood once per distinct set. No I/O.

Clients repeat their headers with every call, all but the timeout; so what they mean is remembered
by the fields themselves, in a table of bounded size that all connections of a server share.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from kvshim.transport.http2.fields import Field
from kvshim.transport.http2.wire import ErrorCode, StreamFault

HEADS_REMEMBERED_MAX = 1024
HEAD_BYTES_REMEMBERED_MAX = 4096
"""Longer ones are understood anew each time, so that the table stays below 4 MiB."""

TIMEOUT = b"grpc-timeout"
TIMEOUT_UNITS = {
    ord("H"): 3600.0,
    ord("M"): 60.0,
    ord("S"): 1.0,
    ord("m"): 1e-3,
    ord("u"): 1e-6,
    ord("n"): 1e-9,
}
TIMEOUT_DIGITS_MAX = 8

PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
REQUIRED = (b":method", b":scheme", b":path")
OF_HTTP1 = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
"""Fields that belong to a connection of HTTP/1.1 and make a request malformed here."""

_NAME_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class Refusal(Enum):
    """Why a well-formed HTTP request is no gRPC call: HTTP status, gRPC status and text."""

    METHOD = (405, 13, "grpc: the method of a call is POST")
    CONTENT_TYPE = (415, 13, "grpc: the content type of a call begins with application/grpc")
    TIMEOUT = (400, 13, "malformed grpc-timeout")

    @property
    def http_status(self) -> int:
        return self.value[0]

    @property
    def code(self) -> int:
        return self.value[1]

    @property
    def text(self) -> str:
        return self.value[2]


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the headers of a call say, but for its timeout."""

    path: str
    metadata: Mapping[str, str]
    """Text metadata by name, the first value of each."""
    binary: Mapping[str, bytes] = field(default_factory=dict)
    """Metadata whose names end in -bin, decoded."""
    encoding: str = "identity"
    content_length: int | None = None
    refusal: Refusal | None = None
    method: str = "POST"
    authority: str = ""

    @property
    def is_http(self) -> bool:
        """Whether it is no call of gRPC, but may be meant for whoever answers plain HTTP."""
        return self.refusal in (Refusal.METHOD, Refusal.CONTENT_TYPE)


class HeadTable:
    """Heads by their fields."""

    def __init__(self) -> None:
        self._heads: dict[tuple[Field, ...], RequestHead] = {}

    def understand(
        self, stream_id: int, fields: Sequence[Field]
    ) -> tuple[RequestHead, bytes | None]:
        """The head and the value of grpc-timeout, if any; StreamFault if malformed."""
        timeout = None
        kept = []
        for item in fields:
            if item[0] == TIMEOUT:
                timeout = item[1]
            else:
                kept.append(item)
        key = tuple(kept)
        head = self._heads.get(key)
        if head is None:
            head = parse_head(stream_id, key)
            if sum(len(name) + len(value) for name, value in key) <= HEAD_BYTES_REMEMBERED_MAX:
                if len(self._heads) >= HEADS_REMEMBERED_MAX:
                    self._heads.clear()
                self._heads[key] = head
        return head, timeout


def parse_head(stream_id: int, fields: Sequence[Field]) -> RequestHead:
    """Understand one set of fields by RFC 9113, 8.2 and 8.3, and gRPC over HTTP/2."""
    pseudo, regular = _split(stream_id, fields)
    values: dict[bytes, bytes] = {}
    for name, value in regular:
        values.setdefault(name, value)
    metadata, binary = _metadata(stream_id, regular)
    return RequestHead(
        path=pseudo[b":path"].decode("latin-1"),
        metadata=metadata,
        binary=binary,
        encoding=values.get(b"grpc-encoding", b"identity").decode("latin-1"),
        content_length=_content_length(stream_id, values),
        refusal=_refusal(pseudo, values),
        method=pseudo[b":method"].decode("latin-1"),
        authority=pseudo.get(b":authority", b"").decode("latin-1"),
    )


def check_trailers(stream_id: int, fields: Sequence[Field]) -> None:
    """A client's trailers say nothing to us, but must be fields of a message."""
    for name, _ in fields:
        if name.startswith(b":"):
            raise _malformed(stream_id, "pseudo-header in trailers")
        _check_name(stream_id, name)


def parse_timeout(value: bytes) -> float:
    """Seconds; ValueError unless it is up to eight digits and a unit."""
    digits, unit = value[:-1], value[-1:]
    seconds = TIMEOUT_UNITS.get(unit[0]) if unit else None
    if seconds is None or len(digits) > TIMEOUT_DIGITS_MAX or not digits.isdigit():
        raise ValueError(f"malformed grpc-timeout: {value!r}")
    return int(digits) * seconds


def _malformed(stream_id: int, why: str) -> StreamFault:
    return StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, why)


def _split(stream_id: int, fields: Sequence[Field]) -> tuple[dict[bytes, bytes], list[Field]]:
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    for name, value in fields:
        if name.startswith(b":"):
            if regular or name in pseudo or name not in PSEUDO:
                raise _malformed(stream_id, "pseudo-header unknown, repeated or late")
            pseudo[name] = value
        else:
            _check_name(stream_id, name)
            if b"\0" in value or b"\r" in value or b"\n" in value:
                raise _malformed(stream_id, "control character in a header")
            regular.append((name, value))
    if not all(pseudo.get(name) for name in REQUIRED):
        raise _malformed(stream_id, "pseudo-header missing")
    return pseudo, regular


def _check_name(stream_id: int, name: bytes) -> None:
    if not name or not _NAME_BYTES.issuperset(name):
        raise _malformed(stream_id, "bad header name")
    if name in OF_HTTP1:
        raise _malformed(stream_id, "header of another protocol")


def _metadata(stream_id: int, fields: Sequence[Field]) -> tuple[dict[str, str], dict[str, bytes]]:
    texts: dict[str, str] = {}
    binary: dict[str, bytes] = {}
    for name, value in fields:
        key = name.decode("ascii")
        if key == "te" and value != b"trailers":
            raise _malformed(stream_id, "te asks for more than trailers")
        if key.endswith("-bin"):
            binary.setdefault(key, _binary(stream_id, value))
        else:
            texts.setdefault(key, value.decode("latin-1"))
    return texts, binary


def _binary(stream_id: int, value: bytes) -> bytes:
    """Base64, padded or not; of several values joined by commas the first."""
    first = value.split(b",", 1)[0].strip().rstrip(b"=")
    try:
        return base64.b64decode(first + b"=" * (-len(first) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _malformed(stream_id, "binary metadata is not base64") from None


def _content_length(stream_id: int, values: Mapping[bytes, bytes]) -> int | None:
    value = values.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 19:
        raise _malformed(stream_id, "bad content-length")
    return int(value)


def _refusal(pseudo: Mapping[bytes, bytes], values: Mapping[bytes, bytes]) -> Refusal | None:
    if pseudo[b":method"] != b"POST":
        return Refusal.METHOD
    kind = values.get(b"content-type", b"")
    if kind == b"application/grpc" or kind.startswith((b"application/grpc+", b"application/grpc;")):
        return None
    return Refusal.CONTENT_TYPE
