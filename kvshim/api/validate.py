"""Checks of requests that need no store: keys, sort options, and puts that clash in a transaction.

The rules, their order and their errors are etcd's (`server/etcdserver/api/v3rpc/key.go`). Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

from kvshim.errors import (
    DuplicateKey,
    EmptyKey,
    InvalidSortOption,
    KeyNotFound,
    LeaseProvided,
    TooManyOps,
    Unimplemented,
    ValueProvided,
)
from kvshim.mvcc.ranges import has_bounds, in_key_order
from kvshim.pb.etcd import rpc_pb2

_Span: TypeAlias = tuple[bytes, bytes]
"""Keys from the first up to, not including, the second."""

_SORT_ORDERS = frozenset(rpc_pb2.RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(rpc_pb2.RangeRequest.SortTarget.values())


def check_range(request: rpc_pb2.RangeRequest) -> None:
    if not request.key:
        raise EmptyKey
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise InvalidSortOption


def check_range_stream(request: rpc_pb2.RangeRequest) -> None:
    """A stream sends rows as it reads them, so it can neither sort nor filter by revision."""
    check_range(request)
    if not in_key_order(request):
        raise Unimplemented("RangeStream does not support custom sort orders")
    if has_bounds(request):
        raise Unimplemented("RangeStream does not support revision filters")


def check_put(request: rpc_pb2.PutRequest) -> None:
    if not request.key:
        raise EmptyKey
    if request.ignore_value and request.value:
        raise ValueProvided
    if request.ignore_lease and request.lease:
        raise LeaseProvided


def check_delete_range(request: rpc_pb2.DeleteRangeRequest) -> None:
    if not request.key:
        raise EmptyKey


def check_txn(request: rpc_pb2.TxnRequest, ops_max: int) -> bool:
    """Check the whole tree of operations, then that no key is written twice.

    Returns whether it may write: a nested Txn counts as a write, as in etcd.
    """
    writes, is_nested = _check_operations(request, ops_max)
    for branch in (request.success, request.failure):
        # One operation meets no other: that is what kube-apiserver sends, with every write.
        if is_nested or len(branch) > 1:
            _collect_writes(branch)
    return writes


def _check_operations(request: rpc_pb2.TxnRequest, ops_max: int) -> tuple[bool, bool]:
    """Check a level and those in it; whether this one writes, and whether there are such."""
    compares, success, failure = request.compare, request.success, request.failure
    widest = max(len(compares), len(success), len(failure))
    if widest > ops_max:
        raise TooManyOps
    for compare in compares:
        if not compare.key:
            raise EmptyKey
    writes = is_nested = False
    for branch in (success, failure):
        for operation in branch:
            match operation.WhichOneof("request"):
                case "request_put":
                    check_put(operation.request_put)
                    writes = True
                case "request_range":
                    check_range(operation.request_range)
                case "request_delete_range":
                    check_delete_range(operation.request_delete_range)
                    writes = True
                case "request_txn":
                    _check_operations(operation.request_txn, ops_max - widest)
                    writes = is_nested = True
                case _:
                    raise KeyNotFound
    return writes, is_nested


@dataclass(slots=True)
class _Writes:
    """What a list of operations may write; `deletes` are disjoint and sorted by `settle`."""

    puts: set[bytes] = field(default_factory=set)
    deletes: list[_Span] = field(default_factory=list)

    def settle(self) -> None:
        """Merge the deletes, so that looking a key up costs a bisection and not a scan."""
        merged: list[_Span] = []
        for start, end in sorted(self.deletes):
            if end <= start:
                continue
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        self.deletes = merged

    def refuse_deleted(self, key: bytes) -> None:
        position = bisect_right(self.deletes, key, key=itemgetter(0)) - 1
        if position >= 0 and key < self.deletes[position][1]:
            raise DuplicateKey

    def add_put(self, key: bytes) -> None:
        if key in self.puts:
            raise DuplicateKey
        self.refuse_deleted(key)
        self.puts.add(key)


def _collect_writes(operations: Sequence[rpc_pb2.RequestOp]) -> _Writes:
    """Refuse a put that meets another put or a delete of its own level or of one nested before it.

    Deletes of this level count first, then nested transactions in their order, whose two branches
    may write the same key, then this level's puts. So a nested delete after a nested put passes.
    """
    writes = _Writes()
    for operation in operations:
        if operation.HasField("request_delete_range"):
            writes.deletes.append(_deleted(operation.request_delete_range))
    writes.settle()
    for operation in operations:
        if operation.HasField("request_txn"):
            _add_nested(writes, operation.request_txn)
    for operation in operations:
        if operation.HasField("request_put"):
            writes.add_put(operation.request_put.key)
    return writes


def _deleted(request: rpc_pb2.DeleteRangeRequest) -> _Span:
    """The keys this check sees as deleted: etcd takes a "from key" end literally, so sees none."""
    return request.key, request.range_end or request.key + b"\x00"


def _add_nested(writes: _Writes, request: rpc_pb2.TxnRequest) -> None:
    success = _collect_writes(request.success)
    failure = _collect_writes(request.failure)
    for key in success.puts:
        writes.add_put(key)
    for key in failure.puts:
        # Only one of the two branches runs, so both may put the same key.
        if key in success.puts:
            writes.refuse_deleted(key)
        else:
            writes.add_put(key)
    if success.deletes or failure.deletes:
        writes.deletes += success.deletes + failure.deletes
        writes.settle()
