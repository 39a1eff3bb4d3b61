"""`WatchResponse` as bytes, joined from events that were encoded once.

Field numbers are those of `etcdserverpb.WatchResponse`; a field at its default is left out, as in
proto3. Pure functions, any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kvshim.watch.outbox import Delivery, Notice
from kvshim.watch.seams import Event

RESPONSE_BYTES_TARGET = 1 << 20
"""A response ends after the revision that takes it over this size."""

HeaderOf = Callable[[int], bytes]
"""The content of a `ResponseHeader` at a revision."""

_CREATED = b"\x18\x01"
_CANCELED = b"\x20\x01"
_FRAGMENT = b"\x38\x01"


def varint(value: int) -> bytes:
    """A protobuf varint of an int64, negative numbers in ten bytes."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def notice_response(notice: Notice, header_of: HeaderOf) -> bytes:
    """A response without events: created, cancelled or progress."""
    parts = [_opening(header_of(notice.revision), notice.watch_id)]
    if notice.created:
        parts.append(_CREATED)
    if notice.canceled:
        parts.append(_CANCELED)
    if notice.compact_revision:
        parts += (b"\x28", varint(notice.compact_revision))
    if notice.cancel_reason:
        reason = notice.cancel_reason.encode()
        parts += (b"\x32", varint(len(reason)), reason)
    return b"".join(parts)


def event_responses(
    delivery: Delivery, header_of: HeaderOf, max_response_bytes: int
) -> Iterator[bytes]:
    """The responses that carry a delivery, in order.

    They end at revision boundaries. Only a watcher that asked for fragments gets one of them split
    further, at `max_response_bytes`, with `fragment` set on all but its last part. A header never
    promises more than what has been sent with it and before it.
    """
    spec = delivery.watcher.spec
    encoded = [event.encoded(spec.prev_kv) for event in delivery.events]
    start = 0
    for end in _revision_cuts(delivery.events, encoded):
        last = end == len(encoded)
        revision = delivery.revision if last else delivery.events[end - 1].revision
        opening = _opening(header_of(revision), delivery.watcher.id)
        body = encoded[start:end]
        if spec.fragment:
            yield from _fragments(opening, body, max_response_bytes)
        else:
            yield b"".join((opening, *body))
        start = end


def _opening(header: bytes, watch_id: int) -> bytes:
    framed = b"\x0a" + varint(len(header)) + header
    return framed + b"\x10" + varint(watch_id) if watch_id else framed


def _revision_cuts(events: Sequence[Event], encoded: Sequence[bytes]) -> Iterator[int]:
    """Where responses end: behind a revision, once they are over the target."""
    size = 0
    for at, body in enumerate(encoded):
        if size >= RESPONSE_BYTES_TARGET and events[at].revision != events[at - 1].revision:
            yield at
            size = 0
        size += len(body)
    yield len(encoded)


def _fragments(opening: bytes, encoded: Sequence[bytes], max_bytes: int) -> Iterator[bytes]:
    """Split as etcd does: each part below the limit, unless one event alone exceeds it."""
    if len(encoded) < 2 or len(opening) + sum(map(len, encoded)) < max_bytes:
        yield b"".join((opening, *encoded))
        return
    overhead = len(opening) + len(_FRAGMENT)
    start, size = 0, overhead
    for at, body in enumerate(encoded):
        if at > start and size + len(body) >= max_bytes:
            yield b"".join((opening, _FRAGMENT, *encoded[start:at]))
            start, size = at, overhead
        size += len(body)
    yield b"".join((opening, *encoded[start:]))
