"""Range with every option, exactly as etcd answers it.

The rules are those of etcd 3.7 (`server/etcdserver/txn/range.go`), corners included: the header
has the store's revision, not the one read; `count` ignores the limit and the revision bounds,
`more` does not ignore the bounds; with a sort target but no order the first limit+1 *keys* are
taken and then sorted; keys_only leaves the lease out unless values are sorted by. A plain list,
which is what clients ask for, never becomes Python objects: its pairs are joined inside SQLite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvshim.mvcc.encoding import encode_pair, frame, varint
from kvshim.mvcc.view import I64_MAX, Part, ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import KeyRange, KeyValue, Revision

FEW_KEYS: Final = 128
FEW_BYTES: Final = 256 << 10
"""Pairs of a range that are read in less time than it takes to have a thread read them."""

HEADER_TAG: Final = b"\x0a"
_MORE: Final = b"\x18\x01"
_COUNT_TAG: Final = b"\x20"

_Request = rpc_pb2.RangeRequest

_SORT_KEYS: Final[dict[int, Callable[[KeyValue], int | bytes]]] = {
    _Request.KEY: lambda kv: kv.key,
    _Request.VERSION: lambda kv: kv.version,
    _Request.CREATE: lambda kv: kv.create_revision,
    _Request.MOD: lambda kv: kv.mod_revision,
    _Request.VALUE: lambda kv: kv.value,
}


class RangeResult:
    """A range's answer. Each element of `kvs` is one or more framed pairs, end to end.

    `next_key` is where a plain list goes on that has more. Each read makes one of these, and mypyc
    does not compile what makes a dataclass.
    """

    __slots__ = ("count", "kvs", "more", "next_key", "returned", "revision")

    def __init__(
        self, revision: Revision, kvs: list[bytes], count: int, *, more: bool, returned: int = 0
    ) -> None:
        self.revision = revision
        self.kvs = kvs
        self.count = count
        self.more = more
        self.returned = returned
        self.next_key: bytes | None = None

    def encode(self, header: bytes) -> bytes:
        """The whole RangeResponse; `header` is an encoded ResponseHeader."""
        return b"".join((frame(HEADER_TAG, header), *self.kvs, self.trailer()))

    def trailer(self) -> bytes:
        """The fields behind the pairs."""
        more = _MORE if self.more else b""
        return more + _COUNT_TAG + varint(self.count) if self.count else more

    def message(self) -> rpc_pb2.RangeResponse:
        """As a message whose header has only the revision."""
        response = rpc_pb2.RangeResponse.FromString(b"".join((*self.kvs, self.trailer())))
        response.header.revision = self.revision
        return response


def execute_range(view: ReadView, request: rpc_pb2.RangeRequest) -> RangeResult:
    """Answer a range from a snapshot. Raises `Compacted` or `FutureRevision`."""
    keys = KeyRange.of(request.key, request.range_end)
    at = view.readable(request.revision)
    if request.count_only:
        return RangeResult(view.revision, [], view.count(keys, at), more=False)
    if is_plain(request):
        return _list(view, keys, at, request.limit)
    return _list_versions(view, keys, at, request)


def execute_short_range(view: ReadView, request: rpc_pb2.RangeRequest) -> RangeResult | None:
    """`execute_range` if that takes microseconds, else None: for one key, or for few at present.

    Of the past no range is known to be short: many ended lives may have to be looked at. Nor is a
    page that goes on at the revision of the first looked at for nothing.
    """
    keys = KeyRange.of(request.key, request.range_end)
    if keys.is_single:
        return execute_range(view, request)
    if request.revision > 0:
        return None
    at = view.revision
    size, rows, last_key, _ = view.extent(keys, at, FEW_KEYS + 1)
    if rows > FEW_KEYS or size > FEW_BYTES:
        return None
    if last_key is None or rows > rows_wanted(request.limit) or not is_plain(request):
        return execute_range(view, request)
    pairs = view.pairs(keys.through(last_key), at)
    return RangeResult(view.revision, [pairs], rows, more=False, returned=rows)


def is_plain(request: rpc_pb2.RangeRequest) -> bool:
    """True when the answer is whole pairs in key order, the first `limit` of the range."""
    return not (
        request.keys_only
        or request.count_only
        or has_bounds(request)
        or request.sort_target != _Request.KEY
        or request.sort_order == _Request.DESCEND
    )


def in_key_order(request: rpc_pb2.RangeRequest) -> bool:
    """True when rows are taken as the store has them; with an order of NONE a target may follow."""
    ascending = request.sort_target == _Request.KEY and request.sort_order == _Request.ASCEND
    return ascending or request.sort_order == _Request.NONE


def has_bounds(request: rpc_pb2.RangeRequest) -> bool:
    """True when pairs are filtered by their revisions."""
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def remaining(view: ReadView, keys: KeyRange, at: Revision) -> int:
    """Keys in a range, counted at most once for a list that comes in pages."""
    if view.counts is None:
        return view.count(keys, at)
    count = view.counts.get(keys, at)
    if count is None:
        count = view.count(keys, at)
        view.counts.put(keys, at, count)
    return count


def _list(view: ReadView, keys: KeyRange, at: Revision, limit: int) -> RangeResult:
    if keys.is_single:
        pair = view.pair(keys.start, at)
        found = [] if pair is None else [pair]
        return RangeResult(view.revision, found, len(found), more=False, returned=len(found))
    result, parts = measure_list(view, keys, at, limit)
    result.kvs = [view.pairs(part.keys, at) for part in parts]
    return result


def measure_list(
    view: ReadView, keys: KeyRange, at: Revision, limit: int
) -> tuple[RangeResult, list[Part]]:
    """The answer to a plain list without its pairs, and the parts that make these.

    Keys behind the returned ones are counted once for all who continue there.
    """
    wanted = rows_wanted(limit)
    parts = list(view.parts(keys, at, wanted))
    count = returned = sum(part.rows for part in parts)
    if returned == wanted:
        count = remaining(view, keys, at)
    result = RangeResult(view.revision, [], count, more=count > returned, returned=returned)
    if result.more:
        result.next_key = next_key = parts[-1].keys.end or b""
        if view.counts is not None:
            view.counts.put(KeyRange(next_key, keys.end), at, count - returned)
    return result, parts


def rows_wanted(limit: int) -> int:
    """The largest number of pairs that a plain list takes; etcd has no limit below 1."""
    return limit if limit > 0 else I64_MAX


def _list_versions(
    view: ReadView, keys: KeyRange, at: Revision, request: rpc_pb2.RangeRequest
) -> RangeResult:
    target, order, limit = request.sort_target, request.sort_order, request.limit
    cut = limit > 0 and in_key_order(request) and not has_bounds(request)
    # Only values to sort by must be there while sorting; the rest is fetched for what is returned.
    read = view.versions if target == _Request.VALUE else view.bare_versions
    versions = read(keys, at, min(limit + 1, I64_MAX) if cut else -1)
    count = len(versions)
    if cut and count > limit:
        count = view.count(keys, at)
    if has_bounds(request):
        versions = [version for version in versions if _within_bounds(version, request)]
    if target != _Request.KEY or order == _Request.DESCEND:
        versions.sort(key=_SORT_KEYS[target], reverse=order == _Request.DESCEND)
    more = 0 < limit < len(versions)
    if more:
        del versions[limit:]
    if request.keys_only:
        pairs = [_encode_key(version, target) for version in versions]
    else:
        pairs = [view.pair_of(version) for version in versions]
    return RangeResult(view.revision, pairs, count, more=more, returned=len(pairs))


def _within_bounds(version: KeyValue, request: rpc_pb2.RangeRequest) -> bool:
    mod, create = version.mod_revision, version.create_revision
    return not (
        (request.max_mod_revision and mod > request.max_mod_revision)
        or (request.min_mod_revision and mod < request.min_mod_revision)
        or (request.max_create_revision and create > request.max_create_revision)
        or (request.min_create_revision and create < request.min_create_revision)
    )


def _encode_key(version: KeyValue, target: int) -> bytes:
    return encode_pair(
        version.key,
        version.create_revision,
        version.mod_revision,
        version.version,
        b"",
        version.lease if target == _Request.VALUE else 0,
    )
