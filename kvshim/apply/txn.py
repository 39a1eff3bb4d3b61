"""Txn: decide the branches, check all of the taken operations, then run them.

Nothing is written before everything was checked, on the state before the transaction; only the
branches taken are checked (etcd `server/etcdserver/txn/txn.go`). A read-only transaction runs on
any view; one that writes runs on the apply thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvshim.apply.compare import Branch, decide
from kvshim.apply.keys import check_put, execute_delete_range, execute_put
from kvshim.errors import Compacted, FutureRevision, KeyNotFound
from kvshim.mvcc.ranges import execute_range
from kvshim.mvcc.store import WriteTxn
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import KeyRange


def is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    """True when every range of a read-only transaction accepts a possibly older state."""
    return all(
        operation.request_range.serializable
        for branch in (request.success, request.failure)
        for operation in branch
    )


def execute_txn(view: ReadView, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
    """Run a transaction; `view` is a `WriteTxn` unless the transaction is read-only.

    Raises the error of the first operation that cannot be done; then nothing was changed.
    """
    branch = decide(view, request)
    _check(view, branch, [])
    response = rpc_pb2.TxnResponse()
    _run(view, branch, response)
    response.header.revision = view.revision
    return response


def _check(view: ReadView, branch: Branch, before: list[rpc_pb2.RequestOp]) -> None:
    """Check the operations of a branch; `before` takes up the puts and deletes on the way."""
    for position, operation in enumerate(branch.operations):
        match operation.WhichOneof("request"):
            case "request_range":
                _check_range(view, operation.request_range)
            case "request_put":
                check_put(view, operation.request_put)
                _check_kept(operation.request_put, before)
                before.append(operation)
            case "request_delete_range":
                before.append(operation)
            case "request_txn":
                _check(view, branch.nested[position], before)


def _check_kept(request: rpc_pb2.PutRequest, before: Sequence[rpc_pb2.RequestOp]) -> None:
    """Refuse to keep fields of a key that this transaction has deleted by then.

    Most such transactions are refused for naming a key twice, but not those whose delete is open or
    upside down. etcd finds out halfway and ends, again after every start.
    """
    if not request.ignore_value and not request.ignore_lease:
        return
    for operation in reversed(before):
        if operation.HasField("request_put"):
            if operation.request_put.key == request.key:
                return
            continue
        deletion = operation.request_delete_range
        if KeyRange.of(deletion.key, deletion.range_end).contains(request.key):
            raise KeyNotFound


def _check_range(view: ReadView, request: rpc_pb2.RangeRequest) -> None:
    if request.revision == 0:
        return
    if request.revision > view.revision:
        raise FutureRevision
    if request.revision < view.compact_revision:
        raise Compacted


def _run(view: ReadView, branch: Branch, response: rpc_pb2.TxnResponse) -> None:
    response.header.SetInParent()
    response.succeeded = branch.succeeded
    for position, operation in enumerate(branch.operations):
        answer = response.responses.add()
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            result = execute_range(view, operation.request_range).message()
            answer.response_range.CopyFrom(result)
        elif kind == "request_txn":
            _run(view, branch.nested[position], answer.response_txn)
        elif isinstance(view, WriteTxn):
            if kind == "request_put":
                execute_put(view, operation.request_put, answer.response_put)
            elif kind == "request_delete_range":
                execute_delete_range(
                    view, operation.request_delete_range, answer.response_delete_range
                )
