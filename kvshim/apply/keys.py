"""Put and DeleteRange as etcd applies them, alone or as an operation inside a transaction.

Each check runs on the state before its command; after the checks nothing can fail, so a command
is never half done (etcd `server/etcdserver/txn/{put,delete}.go`). Apply thread.
"""

from __future__ import annotations

from kvshim.errors import KeyNotFound, LeaseNotFound
from kvshim.mvcc.store import WriteTxn
from kvshim.mvcc.view import ReadView
from kvshim.pb.etcd import kv_pb2, rpc_pb2
from kvshim.types import NO_LEASE, KeyRange, KeyValue, LeaseID


def message_of(version: KeyValue) -> kv_pb2.KeyValue:
    """A stored version as etcd's message."""
    return kv_pb2.KeyValue(
        key=version.key,
        value=version.value,
        create_revision=version.create_revision,
        mod_revision=version.mod_revision,
        version=version.version,
        lease=version.lease,
    )


def check_put(view: ReadView, request: rpc_pb2.PutRequest) -> None:
    """Refuse an unknown lease, and a put that keeps fields of a key that is absent."""
    if request.lease != NO_LEASE and view.lease(LeaseID(request.lease)) is None:
        raise LeaseNotFound
    if (request.ignore_value or request.ignore_lease) and view.get(request.key) is None:
        raise KeyNotFound


def execute_put(
    txn: WriteTxn, request: rpc_pb2.PutRequest, response: rpc_pb2.PutResponse
) -> rpc_pb2.PutResponse:
    """Write one key. The response's prev_kv is the version just replaced, whoever made it."""
    value, lease = request.value, LeaseID(request.lease)
    if request.ignore_value or request.ignore_lease:
        current = txn.get(request.key)
        if current is None:
            raise KeyNotFound  # not reached: the checks before, of the transaction too, found it
        value = current.value if request.ignore_value else value
        lease = current.lease if request.ignore_lease else lease
    replaced = txn.put(request.key, value, lease)
    response.header.revision = txn.revision
    if request.prev_kv and replaced is not None:
        response.prev_kv.CopyFrom(message_of(replaced))
    return response


def execute_delete_range(
    txn: WriteTxn, request: rpc_pb2.DeleteRangeRequest, response: rpc_pb2.DeleteRangeResponse
) -> rpc_pb2.DeleteRangeResponse:
    """Delete a range of keys; a range without keys changes nothing."""
    deleted = txn.delete_range(KeyRange.of(request.key, request.range_end))
    response.header.revision = txn.revision
    response.deleted = len(deleted)
    if request.prev_kv:
        response.prev_kvs.extend(message_of(version) for version in deleted)
    return response
