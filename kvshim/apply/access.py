"""Which keys a request touches, and so what its user must be allowed to do.

Asked in apply of every command while authentication is on, and by the API of what does not go
through the log (etcd `server/etcdserver/apply/auth.go`). Pure reads of a view; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kvshim.auth.state import AuthState, Identity
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.types import NO_LEASE, KeyRange, LeaseID

ADMIN_KINDS: Final = frozenset(
    {
        "auth_enable",
        "auth_disable",
        "user_add",
        "user_delete",
        "user_change_password",
        "user_grant_role",
        "user_revoke_role",
        "role_add",
        "role_delete",
        "role_grant_permission",
        "role_revoke_permission",
    }
)
"""Operations that take the role root. What the API alone restricts, such as compaction, is not
here: etcd does not look at it again in apply."""


def check_command(state: AuthState, view: ReadView, who: Identity, command: Command) -> None:
    """Raise the error of what this user may not do."""
    kind = command.WhichOneof("operation")
    match kind:
        case "put":
            check_put(state, view, who, command.put)
        case "txn":
            check_txn(state, view, who, command.txn)
        case "delete_range":
            request = command.delete_range
            keys = KeyRange.of(request.key, request.range_end)
            state.check_write(who, keys)
            if request.prev_kv:
                state.check_read(who, keys)
        case "lease_revoke":
            check_lease_writes(state, view, who, command.lease_revoke.ID)
        case _ if kind in ADMIN_KINDS:
            state.check_admin(who)


def check_put(state: AuthState, view: ReadView, who: Identity, request: rpc_pb2.PutRequest) -> None:
    """Raise unless the key may be written, and read if its value is asked for.

    A lease that holds keys which this user may not write is not for the user: it could not revoke
    it again.
    """
    key = KeyRange.of(request.key, b"")
    state.check_write(who, key)
    check_lease_writes(state, view, who, request.lease)
    if request.prev_kv:
        state.check_read(who, key)


def check_lease_writes(state: AuthState, view: ReadView, who: Identity, lease: int) -> None:
    """Raise unless every key that the lease holds may be written."""
    if lease == NO_LEASE or state.is_admin(who):
        return
    for key in view.lease_keys(LeaseID(lease)):
        state.check_write(who, KeyRange.of(key, b""))


def check_lease_reads(state: AuthState, view: ReadView, who: Identity, lease: int) -> None:
    """Raise unless every key that the lease holds may be read."""
    if state.is_admin(who):
        return
    for key in view.lease_keys(LeaseID(lease)):
        state.check_read(who, KeyRange.of(key, b""))


def check_txn(state: AuthState, view: ReadView, who: Identity, request: rpc_pb2.TxnRequest) -> None:
    """Raise unless all comparisons and the operations of both branches are allowed."""
    for compare in request.compare:
        state.check_read(who, KeyRange.of(compare.key, compare.range_end))
    _check_operations(state, view, who, request.success)
    _check_operations(state, view, who, request.failure)


def _check_operations(
    state: AuthState, view: ReadView, who: Identity, operations: Iterable[rpc_pb2.RequestOp]
) -> None:
    for operation in operations:
        match operation.WhichOneof("request"):
            case "request_range":
                ranged = operation.request_range
                state.check_read(who, KeyRange.of(ranged.key, ranged.range_end))
            case "request_put":
                check_put(state, view, who, operation.request_put)
            case "request_delete_range":
                deletion = operation.request_delete_range
                keys = KeyRange.of(deletion.key, deletion.range_end)
                if deletion.prev_kv:
                    state.check_read(who, keys)
                state.check_write(who, keys)
            case "request_txn":
                check_txn(state, view, who, operation.request_txn)
