"""A client of another server of etcd's API, to take its data over. Blocking; the calling thread.

etcd gives a snapshot of itself. kine and k8s-dqlite have none: of these the present keys are read,
page by page at one revision, all of them under `/`, since older ones list nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import grpc
from google.protobuf.message import Message

from kvshim.errors import KvshimError
from kvshim.pb.etcd import kv_pb2, rpc_pb2
from kvshim.types import KeyValue, LeaseID, Revision

_M = TypeVar("_M", bound=Message)

CALL_SECONDS_MAX: Final = 30.0
PAGE_KEYS: Final = 500
MESSAGE_BYTES_MAX: Final = 512 << 20
"""A page of Kubernetes' largest objects is a tenth of that."""

_FIRST, _END = b"/", b"0"


class SourceError(KvshimError):
    """The other server did not answer as it should: says how."""


class NoSnapshotThere(Exception):
    """It does not have Maintenance.Snapshot."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files in PEM, and a user with a password."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password: str = ""


class Source:
    """A connection to one server."""

    def __init__(self, url: str, channel: grpc.Channel) -> None:
        self._url = url
        self._channel = channel
        self._metadata: list[tuple[str, str]] = []

    @classmethod
    @contextmanager
    def connected(cls, url: str, credentials: Credentials) -> Iterator[Self]:
        """`http://`, `https://`, `unix://` and a path, or a bare host and port.

        Raises `SourceError`, here and from everything inside.
        """
        with _channel(url, credentials) as channel:
            source = cls(url, channel)
            try:
                if credentials.user is not None:
                    source._log_in(credentials.user, credentials.password)
                yield source
            except grpc.RpcError as error:
                away = error.code() is grpc.StatusCode.UNAVAILABLE
                what = "cannot be reached" if away else "answered"
                raise SourceError(f"{url} {what}: {error.details() or error.code()}") from None

    def save_snapshot(self, path: Path) -> Iterator[tuple[int, int]]:
        """Write a snapshot to a file; yields how many bytes have come, and of how many.

        The server's SHA-256 is at the file's end. Raises `NoSnapshotThere` before it writes.
        """
        method = self._channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=rpc_pb2.SnapshotRequest.SerializeToString,
            response_deserializer=rpc_pb2.SnapshotResponse.FromString,
        )
        pieces = method(rpc_pb2.SnapshotRequest(), metadata=self._metadata)
        came = 0
        try:
            piece = next(pieces)
        except grpc.RpcError as error:
            if _is_missing(error):
                raise NoSnapshotThere from None
            raise
        with path.open("wb") as file:
            path.chmod(0o600)
            while piece is not None:
                file.write(piece.blob)
                came += len(piece.blob)
                yield came, came + piece.remaining_bytes
                piece = next(pieces, None)

    def present_keys(self) -> tuple[Revision, int, Iterator[KeyValue]]:
        """The revision, how many keys there are at it, and the keys in order."""
        page = self._page(_FIRST, 0)
        revision = page.header.revision
        return Revision(revision), page.count, self._pages(page, revision)

    def _pages(self, page: rpc_pb2.RangeResponse, revision: int) -> Iterator[KeyValue]:
        while True:
            for pair in page.kvs:
                yield _version(pair)
            if not page.kvs or not (page.more or page.count > len(page.kvs)):
                return
            page = self._page(page.kvs[-1].key + b"\x00", revision)

    def _page(self, key: bytes, revision: int) -> rpc_pb2.RangeResponse:
        request = rpc_pb2.RangeRequest(key=key, range_end=_END, limit=PAGE_KEYS, revision=revision)
        return self._call("KV/Range", request, rpc_pb2.RangeResponse)

    def _log_in(self, user: str, password: str) -> None:
        request = rpc_pb2.AuthenticateRequest(name=user, password=password)
        answer = self._call("Auth/Authenticate", request, rpc_pb2.AuthenticateResponse)
        self._metadata = [("token", answer.token)]

    def _call(self, method: str, request: Message, response: type[_M]) -> _M:
        call = self._channel.unary_unary(
            f"/etcdserverpb.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        answer: _M = call(request, timeout=CALL_SECONDS_MAX, metadata=self._metadata)
        return answer


def _channel(url: str, credentials: Credentials) -> grpc.Channel:
    scheme, separator, address = url.partition("://")
    if not separator:
        scheme, address = "http", url
    options: list[tuple[str, Any]] = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    if scheme in ("unix", "unixs"):
        address = f"unix:{address}"
        options.append(("grpc.default_authority", "localhost"))
    elif scheme not in ("http", "https"):
        raise SourceError(f"{url}: an endpoint begins with http://, https:// or unix://")
    if scheme in ("http", "unix"):
        return grpc.insecure_channel(address.rstrip("/"), options)
    return grpc.secure_channel(
        address.rstrip("/"),
        grpc.ssl_channel_credentials(
            _content(credentials.ca_file),
            _content(credentials.key_file),
            _content(credentials.cert_file),
        ),
        options,
    )


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error


def _is_missing(error: grpc.RpcError) -> bool:
    """kine answers with a plain error of Go, whose code is unknown."""
    return error.code() is grpc.StatusCode.UNIMPLEMENTED or (
        error.code() is grpc.StatusCode.UNKNOWN and "not supported" in (error.details() or "")
    )


def _version(pair: kv_pb2.KeyValue) -> KeyValue:
    """kine may count no versions: then a key that was changed since is at its second."""
    created = pair.create_revision if pair.create_revision > 0 else pair.mod_revision
    number = pair.version or (1 if created == pair.mod_revision else 2)
    return KeyValue(
        pair.key,
        pair.value,
        Revision(created),
        Revision(pair.mod_revision),
        number,
        LeaseID(pair.lease),
    )
