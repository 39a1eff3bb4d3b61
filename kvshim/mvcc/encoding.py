"""The wire form of a version, made once when it is written.

A pair is three pieces that lie end to end: `head` (the tag and length that frame it as field 2 of
a message, KeyValue's fields 1 to 4, the tag and length of field 5), the value itself, and `tail`
(field 6, the lease). Fields that are zero or empty are left out, as every protobuf encoder does, so
the bytes are those that etcd stores and hashes. Pure; see protobuf's encoding specification.
"""

from __future__ import annotations

from typing import Final

from google_crc32c import extend
from google_crc32c import value as checksum_of

_U64: Final = (1 << 64) - 1

PAIR_TAG: Final = b"\x12"
"""Field 2, length-delimited: `RangeResponse.kvs`, `PutResponse.prev_kv`, `Event.kv`."""

_KEY_TAG: Final = b"\x0a"
_CREATE_TAG: Final = b"\x10"
_MOD_TAG: Final = b"\x18"
_VERSION_TAG: Final = b"\x20"
_VALUE_TAG: Final = b"\x2a"
_LEASE_TAG: Final = b"\x30"


def _encode(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SHORT: Final = tuple(_encode(number) for number in range(1 << 14))


def varint(number: int) -> bytes:
    """An int64 or uint64 as protobuf has it; negative numbers take ten bytes."""
    if 0 <= number < 1 << 14:
        return _SHORT[number]
    return _encode(number & _U64)


def encode_put(  # noqa: PLR0917
    key: bytes, create_revision: int, mod_revision: int, version: int, value: bytes, lease: int
) -> tuple[bytes, bytes]:
    """(head, tail) of a version."""
    fields = b"".join(
        (
            _KEY_TAG,
            varint(len(key)),
            key,
            _CREATE_TAG,
            varint(create_revision),
            _MOD_TAG,
            varint(mod_revision),
            _VERSION_TAG,
            varint(version),
        )
    )
    if value:
        fields += _VALUE_TAG + varint(len(value))
    tail = _LEASE_TAG + varint(lease) if lease else b""
    return PAIR_TAG + varint(len(fields) + len(value) + len(tail)) + fields, tail


def encode_pair(  # noqa: PLR0917
    key: bytes, create_revision: int, mod_revision: int, version: int, value: bytes, lease: int
) -> bytes:
    """A whole framed pair."""
    head, tail = encode_put(key, create_revision, mod_revision, version, value, lease)
    return head + value + tail


def encode_deletion(key: bytes, revision: int) -> bytes:
    """The framed pair of a DELETE event: key and revision only."""
    fields = _KEY_TAG + varint(len(key)) + key + _MOD_TAG + varint(revision)
    return PAIR_TAG + varint(len(fields)) + fields


def encode_tombstone(key: bytes) -> bytes:
    """A deletion as etcd stores and hashes it, unframed: the key alone."""
    return _KEY_TAG + varint(len(key)) + key


def checksum(head: bytes, tail: bytes, value: bytes) -> int:
    """The CRC-32C of a stored version."""
    return int(extend(extend(checksum_of(head), tail), value))


def unframe(head: bytes) -> bytes:
    """A head without the tag and length in front of it."""
    end = 1
    while head[end] & 0x80:
        end += 1
    return head[end + 1 :]


def frame(tag: bytes, *pieces: bytes) -> bytes:
    """A length-delimited field."""
    return b"".join((tag, varint(sum(map(len, pieces))), *pieces))
