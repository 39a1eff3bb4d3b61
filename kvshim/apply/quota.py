"""What a command would add to the store, in bytes, by etcd's estimate.

Used twice: before proposing, against this member's file size, and in apply, to tell the commands
that a NOSPACE alarm forbids (etcd `server/storage/quota.go`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command

KEY_OVERHEAD_BYTES = 256
LEASE_OVERHEAD_BYTES = 64


def cost_of(command: Command) -> int:
    """Estimated bytes; 0 for a command that stores nothing new."""
    match command.WhichOneof("operation"):
        case "put":
            return _cost_of_put(command.put)
        case "txn":
            return _cost_of_txn(command.txn)
        case "lease_grant":
            return LEASE_OVERHEAD_BYTES
        case _:
            return 0


def _cost_of_put(request: rpc_pb2.PutRequest) -> int:
    return KEY_OVERHEAD_BYTES + len(request.key) + len(request.value)


def _cost_of_txn(request: rpc_pb2.TxnRequest) -> int:
    return max(_cost_of_branch(request.success), _cost_of_branch(request.failure))


def _cost_of_branch(operations: Iterable[rpc_pb2.RequestOp]) -> int:
    total = 0
    for operation in operations:
        match operation.WhichOneof("request"):
            case "request_put":
                total += _cost_of_put(operation.request_put)
            case "request_txn":
                total += _cost_of_txn(operation.request_txn)
    return total
