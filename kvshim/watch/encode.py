"""`WatchResponse` as bytes, joined from events that were encoded once.

Field numbers are those of `etcdserverpb.WatchResponse`; a field at its default is left out, as in
proto3. Pure functions, any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvshim.mvcc.encoding import varint
from kvshim.watch.batch import Body
from kvshim.watch.outbox import Delivery, Notice

HeaderOf = Callable[[int], bytes]
"""The content of a `ResponseHeader` at a revision."""

_CREATED = b"\x18\x01"
_CANCELED = b"\x20\x01"
_FRAGMENT = b"\x38\x01"


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
) -> list[bytes]:
    """The responses that carry a delivery, in order.

    They end at revision boundaries. Only a watcher that asked for fragments gets one of them split
    further, at `max_response_bytes`, with `fragment` set on all but its last part. A header never
    promises more than what has been sent with it and before it.
    """
    spec = delivery.watcher.spec
    bodies = delivery.batch.bodies(with_prev=spec.prev_kv)
    responses: list[bytes] = []
    for body in bodies:
        revision = delivery.revision if body is bodies[-1] else body.revision
        opening = _opening(header_of(revision), delivery.watcher.id)
        if spec.fragment and len(opening) + len(body.data) >= max_response_bytes:
            responses += _fragments(opening, body, max_response_bytes)
        else:
            responses.append(opening + body.data)
    return responses


def _opening(header: bytes, watch_id: int) -> bytes:
    framed = b"\x0a" + varint(len(header)) + header
    return framed + b"\x10" + varint(watch_id) if watch_id else framed


def _fragments(opening: bytes, body: Body, max_bytes: int) -> Iterator[bytes]:
    """Split as etcd does: each part below the limit, unless one event alone exceeds it."""
    overhead = len(opening) + len(_FRAGMENT)
    start = end = 0
    for size in body.sizes:
        if end > start and overhead + end - start + size >= max_bytes:
            yield b"".join((opening, _FRAGMENT, body.data[start:end]))
            start = end
        end += size
    yield opening + body.data[start:]
