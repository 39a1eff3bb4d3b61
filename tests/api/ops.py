"""Short names for what a Txn is made of."""

from typing import Any

from kvshim.pb.etcd import rpc_pb2 as pb


def put(key: bytes, value: bytes = b"", **options: Any) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, **options))


def get(key: bytes, range_end: bytes = b"", **options: Any) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, range_end=range_end, **options))


def delete(key: bytes, range_end: bytes = b"", **options: Any) -> pb.RequestOp:
    request = pb.DeleteRangeRequest(key=key, range_end=range_end, **options)
    return pb.RequestOp(request_delete_range=request)


def txn(*success: pb.RequestOp, compare: Any = (), failure: Any = ()) -> pb.RequestOp:
    request = pb.TxnRequest(compare=compare, success=success, failure=failure)
    return pb.RequestOp(request_txn=request)


def when(key: bytes, target: str, result: str, operand: Any, **options: Any) -> pb.Compare:
    """A compare: `when(key, "version", ">", 3)`."""
    results = {
        "=": pb.Compare.EQUAL,
        "!=": pb.Compare.NOT_EQUAL,
        ">": pb.Compare.GREATER,
        "<": pb.Compare.LESS,
    }
    targets = {
        "version": pb.Compare.VERSION,
        "create_revision": pb.Compare.CREATE,
        "mod_revision": pb.Compare.MOD,
        "value": pb.Compare.VALUE,
        "lease": pb.Compare.LEASE,
    }
    return pb.Compare(
        key=key, target=targets[target], result=results[result], **{target: operand}, **options
    )


def keys(response: Any) -> list[bytes]:
    """The keys of a Range response, in its order."""
    return [kv.key for kv in response.kvs]


def values(response: Any) -> list[bytes]:
    return [kv.value for kv in response.kvs]
