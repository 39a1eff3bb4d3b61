"""etcd's errors, as a client sees them: the exact code and the exact text."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest

Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class ApiError:
    code: grpc.StatusCode
    text: str


EMPTY_KEY = ApiError(Code.INVALID_ARGUMENT, "etcdserver: key is not provided")
KEY_NOT_FOUND = ApiError(Code.INVALID_ARGUMENT, "etcdserver: key not found")
VALUE_PROVIDED = ApiError(Code.INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_PROVIDED = ApiError(Code.INVALID_ARGUMENT, "etcdserver: lease is provided")
TOO_MANY_OPS = ApiError(Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
DUPLICATE_KEY = ApiError(Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
INVALID_SORT = ApiError(Code.INVALID_ARGUMENT, "etcdserver: invalid sort option")
REQUEST_TOO_LARGE = ApiError(Code.INVALID_ARGUMENT, "etcdserver: request is too large")
COMPACTED = ApiError(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION = ApiError(
    Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"
)
NO_SPACE = ApiError(Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
CORRUPT = ApiError(Code.DATA_LOSS, "etcdserver: corrupt cluster")
LEASE_NOT_FOUND = ApiError(Code.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS = ApiError(Code.FAILED_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE = ApiError(Code.OUT_OF_RANGE, "etcdserver: too large lease TTL")
STREAM_NO_SORT = ApiError(Code.UNIMPLEMENTED, "RangeStream does not support custom sort orders")
STREAM_NO_FILTER = ApiError(Code.UNIMPLEMENTED, "RangeStream does not support revision filters")


@contextmanager
def refused(error: ApiError) -> Iterator[None]:
    """The calls inside must fail with exactly this error."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert ApiError(caught.value.code(), caught.value.details()) == error
