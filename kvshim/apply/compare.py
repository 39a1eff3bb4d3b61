"""The If of a transaction: which branch is taken, here and in every nested transaction.

All comparisons of a transaction, nested ones included, see the state before it (etcd
`server/etcdserver/txn/txn.go`). Pure reads of a view; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import KeyRange, KeyValue, LeaseID, Revision

_ABSENT = KeyValue(b"", b"", Revision(0), Revision(0), 0, LeaseID(0))


@dataclass(slots=True)
class Branch:
    """The taken side of a transaction; `nested` holds the decision for each Txn among its ops."""

    succeeded: bool
    operations: Sequence[rpc_pb2.RequestOp]
    nested: dict[int, Branch] = field(default_factory=dict)


def decide(view: ReadView, request: rpc_pb2.TxnRequest) -> Branch:
    """Evaluate all comparisons before anything is changed."""
    succeeded = True
    for compare in request.compare:
        if not _holds(view, compare):
            succeeded = False
            break
    branch = Branch(succeeded, request.success if succeeded else request.failure)
    for position, operation in enumerate(branch.operations):
        if operation.HasField("request_txn"):
            branch.nested[position] = decide(view, operation.request_txn)
    return branch


def _holds(view: ReadView, compare: rpc_pb2.Compare) -> bool:
    found = False
    for version in _candidates(view, compare):
        found = True
        if not _matches(compare, version):
            return False
    # An absent key has zero revisions, version and lease, but no value: nothing equals it.
    return found or (compare.target != rpc_pb2.Compare.VALUE and _matches(compare, _ABSENT))


def _candidates(view: ReadView, compare: rpc_pb2.Compare) -> Iterable[KeyValue]:
    if compare.range_end:
        return view.select(KeyRange.of(compare.key, compare.range_end))
    version = view.get(compare.key)
    return () if version is None else (version,)


def _matches(compare: rpc_pb2.Compare, version: KeyValue) -> bool:
    # A target whose operand was not given compares with zero or the empty value.
    target = rpc_pb2.Compare
    order: int
    match compare.target:
        case target.VALUE:
            order = (version.value > compare.value) - (version.value < compare.value)
        case target.CREATE:
            order = version.create_revision - compare.create_revision
        case target.MOD:
            order = version.mod_revision - compare.mod_revision
        case target.VERSION:
            order = version.version - compare.version
        case target.LEASE:
            order = version.lease - compare.lease
        case _:
            order = 0
    match compare.result:
        case target.EQUAL:
            return order == 0
        case target.NOT_EQUAL:
            return order != 0
        case target.GREATER:
            return order > 0
        case target.LESS:
            return order < 0
        case _:
            return True
