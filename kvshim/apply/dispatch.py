"""One command in, its result out: the deterministic heart of apply.

No clock, no randomness, no environment: the result depends on the store and the command alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from google.protobuf.message import Message

from kvshim.apply.alarms import Alarm, apply_alarm, refuse_by_alarm
from kvshim.apply.auth import AUTH_KINDS, AuthApplier, load_auth
from kvshim.apply.keys import check_put, execute_delete_range, execute_put
from kvshim.apply.leases import apply_lease_checkpoint, apply_lease_grant, apply_lease_revoke
from kvshim.apply.members import apply_attributes, apply_spare, apply_update
from kvshim.apply.outcome import AlarmChanged, Applied
from kvshim.apply.role_numbers import apply_role_numbers
from kvshim.apply.tokens import apply_token_add, apply_token_spend
from kvshim.apply.txn import execute_txn
from kvshim.apply.versions import apply_cluster_version
from kvshim.auth.book import AuthBook
from kvshim.auth.state import AuthState
from kvshim.errors import NotLeader, RequestError, StorageError
from kvshim.mvcc.store import WriteBatch, WriteTxn
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command


class Applier:
    """Applies commands in log order, remembering alarms and users between batches."""

    def __init__(self, alarms: Iterable[Alarm], auth: AuthApplier | None = None) -> None:
        self._alarms = set(alarms)
        self.auth = auth or AuthApplier(AuthBook(AuthState()), AuthState())

    @classmethod
    def of(cls, view: ReadView, book: AuthBook) -> Applier:
        """Go on from what the store holds, and show it in the book."""
        auth = AuthApplier(book, load_auth(view))
        auth.publish()
        if not auth.state.enabled:
            book.tokens.clear()
        return cls(view.alarms(), auth)

    def apply(self, batch: WriteBatch, command: Command, term: int, index: int = 0) -> Applied:
        """Apply one command inside the batch's transaction; a refusal is a result.

        `term` and `index` are the entry's: what another term's leader decided alone is refused.

        Raises `StorageError` when the command's kind is unknown: a member that skipped an entry
        would differ from the others for ever.
        """
        try:
            if command.decided_in_term not in (0, term):
                raise NotLeader
            if self._alarms:
                refuse_by_alarm(self._alarms, command)
            if self.auth.state.enabled:
                self.auth.check(batch, command)
            applied = _dispatch(batch, command, self.auth, index)
        except RequestError as refusal:
            return Applied(refusal)
        for effect in applied.effects:
            if isinstance(effect, AlarmChanged):
                named = (effect.member, effect.alarm)
                (self._alarms.add if effect.raised else self._alarms.discard)(named)
        return applied


def _dispatch(batch: WriteBatch, command: Command, auth: AuthApplier, index: int) -> Applied:
    match command.WhichOneof("operation"):
        case "txn":
            return _change(batch, lambda txn: execute_txn(txn, command.txn))
        case "put":
            check_put(batch, command.put)
            response = rpc_pb2.PutResponse()
            return _change(batch, lambda txn: execute_put(txn, command.put, response))
        case "delete_range":
            deleted = rpc_pb2.DeleteRangeResponse()
            return _change(
                batch, lambda txn: execute_delete_range(txn, command.delete_range, deleted)
            )
        case "compaction":
            return _compact(batch, command.compaction)
        case "lease_grant":
            return apply_lease_grant(batch, command.lease_grant)
        case "lease_revoke":
            return apply_lease_revoke(batch, command.lease_revoke)
        case "lease_checkpoint":
            return apply_lease_checkpoint(batch, command.lease_checkpoint)
        case "alarm":
            return apply_alarm(batch, command.alarm)
        case "token_add":
            return apply_token_add(batch, command.token_add)
        case "token_spend":
            return apply_token_spend(batch, command.token_spend)
        case "member_attributes":
            return apply_attributes(batch, command.member_attributes)
        case "member_update":
            return apply_update(batch, command.member_update)
        case "spare":
            return apply_spare(batch, command.spare)
        case "role_numbers":
            return apply_role_numbers(batch, command.role_numbers)
        case "cluster_version":
            return apply_cluster_version(batch, command.cluster_version)
        case kind if kind in AUTH_KINDS:
            return auth.apply(batch, kind, command, index)
        case unknown:
            raise StorageError(
                f"the log holds a command that this version does not know ({unknown}): "
                "start the version that wrote it"
            )


def _change(batch: WriteBatch, execute: Callable[[WriteTxn], Message]) -> Applied:
    txn = batch.begin()
    try:
        response = execute(txn)
    except RequestError as refusal:
        if txn.revision != txn.base_revision:
            raise StorageError(f"a command failed after it changed keys: {refusal}") from refusal
        raise
    return Applied(response, txn.finish())


def _compact(batch: WriteBatch, request: rpc_pb2.CompactionRequest) -> Applied:
    batch.compact(request.revision)
    header = rpc_pb2.ResponseHeader(revision=batch.revision)
    return Applied(rpc_pb2.CompactionResponse(header=header))
