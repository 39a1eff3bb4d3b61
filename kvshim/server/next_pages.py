"""The next page of a list that comes in pages, read while the client is busy with the last one.

All pages but the first are asked for at the revision of the first, where nothing changes any more:
what the next one will be is known when one is answered, and that it is wanted is likely once a
client has asked for a second one. Only pages that are answered whole are read ahead; a longer one
leaves in slices, which are read ahead already (`server.read_ahead`). Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from kvshim.errors import RequestError
from kvshim.mvcc.ranges import RangeResult, is_plain
from kvshim.mvcc.slices import SlicePlan, open_range
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2

PAGES_MAX: Final = 4
"""Pages, of at most `WHOLE_BYTES_MAX` each, that may wait for their clients."""

KEPT_SECONDS: Final = 1.0
"""How long a page waits; clients that do not go on leave theirs."""

_Key = tuple[bytes, bytes, int, int]
_Answer = asyncio.Future[RangeResult | None]
_Begin = Callable[[Callable[[], RangeResult | None]], _Answer]


class _Page(NamedTuple):
    """A page that is read or being read; None is one that cannot be told ahead."""

    answer: _Answer
    expiry: asyncio.TimerHandle


class NextPages:
    """The pages that wait; `begin` runs a function on a reader thread."""

    def __init__(self, store: Store, begin: _Begin) -> None:
        self._store = store
        self._begin = begin
        self._pages: dict[_Key, _Page] = {}

    async def take(self, request: rpc_pb2.RangeRequest) -> RangeResult | None:
        """The answer to a request for a page, with the header's revision of now, if it is here."""
        if not self._pages or not is_plain(request):
            return None
        page = self._pages.pop(_key(request, request.key), None)
        if page is None:
            return None
        page.expiry.cancel()
        result = await page.answer
        if result is None or request.revision < self._store.compact_revision:
            return None
        result.revision = self._store.revision
        return result

    def read_behind(self, request: rpc_pb2.RangeRequest, answer: RangeResult) -> None:
        """Begin to read what a client that goes on after `answer` will ask for."""
        next_key = answer.next_key
        if next_key is None or request.revision <= 0 or len(self._pages) >= PAGES_MAX:
            return
        key = _key(request, next_key)
        if key in self._pages:
            return
        following = rpc_pb2.RangeRequest()
        following.CopyFrom(request)
        following.key = next_key
        expiry = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._pages.pop, key)
        self._pages[key] = _Page(self._begin(partial(_read, self._store, following)), expiry)


def _key(request: rpc_pb2.RangeRequest, start: bytes) -> _Key:
    """What tells requests for pages of plain lists apart."""
    return (start, request.range_end, request.revision, request.limit)


def _read(store: Store, request: rpc_pb2.RangeRequest) -> RangeResult | None:
    try:
        opened = open_range(store, request)
    except RequestError:
        return None  # whoever asks is told then
    if isinstance(opened, SlicePlan):
        opened.close()
        return None
    return opened
