"""What watchers are told: one change of one key, encoded once for all of them.

An event is made by apply, or read from history, and is not changed afterwards. Its wire form is
made when first asked for and kept; two threads doing so at once make the same bytes.
"""

from __future__ import annotations

from typing import Final

from kvshim.mvcc.encoding import frame
from kvshim.types import EventKind, Revision

_EVENTS_TAG: Final = b"\x5a"
"""Field 11, length-delimited: `WatchResponse.events`."""

_PREV_TAG: Final = b"\x1a"
_DELETE: Final = b"\x08\x01"

_FRAMING_BYTES: Final = 8


class Event:
    """A PUT or DELETE. A DELETE's pair has only the key and the revision of the deletion."""

    __slots__ = (
        "_pair",
        "_plain",
        "_prev",
        "_with_prev",
        "create",
        "key",
        "kind",
        "revision",
        "sub",
    )

    def __init__(  # noqa: PLR0917
        self,
        kind: EventKind,
        revision: Revision,
        sub: int,
        key: bytes,
        pair: tuple[bytes, ...],
        prev: tuple[bytes, ...] | None,
        *,
        create: bool,
    ) -> None:
        """`pair` and `prev` are framed pairs in pieces that lie end to end."""
        self.kind = kind
        self.revision = revision
        self.sub = sub
        self.key = key
        self.create = create
        self._pair = pair
        self._prev = prev
        self._plain: bytes | None = None
        self._with_prev: bytes | None = None

    @property
    def pair(self) -> bytes:
        """The framed pair (a message's field 2)."""
        return b"".join(self._pair)

    @property
    def prev(self) -> bytes | None:
        """The framed pair it replaced (field 2), or None."""
        return None if self._prev is None else b"".join(self._prev)

    @property
    def size(self) -> int:
        """Bytes of the wire form with the previous pair, within a few."""
        size = _FRAMING_BYTES + sum(map(len, self._pair))
        return size if self._prev is None else size + sum(map(len, self._prev))

    def encoded(self, with_prev: bool) -> bytes:  # noqa: FBT001
        """The event framed as an element of `WatchResponse.events`."""
        if with_prev and self._prev is not None:
            if self._with_prev is None:
                self._with_prev = self._encode(_PREV_TAG + b"".join(self._prev)[1:])
            return self._with_prev
        if self._plain is None:
            self._plain = self._encode(b"")
        return self._plain

    def _encode(self, prev: bytes) -> bytes:
        kind = _DELETE if self.kind is EventKind.DELETE else b""
        return frame(_EVENTS_TAG, kind, *self._pair, prev)

    def __repr__(self) -> str:
        return f"Event({self.kind.name}, {self.revision}.{self.sub}, {self.key!r})"
