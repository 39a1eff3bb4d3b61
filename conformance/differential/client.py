"""One server of the pair and a client that adds nothing: no retries, no defaults. Blocking."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from conformance.servers import Datastore
from kvshim.pb.etcd import election_pb2, lock_pb2, rpc_pb2

__all__ = ["Client", "Failure", "Method", "Watch", "method"]

CALL_SECONDS_MAX = 20.0
WAITING_SECONDS_MAX = 5.0
"""For a lock that somebody else holds."""
WAITING = frozenset({"Lock/Lock", "Election/Campaign"})
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
PACKAGES = {"Lock": lock_pb2, "Election": election_pb2}
SERVICES = {"Lock": "v3lockpb.Lock", "Election": "v3electionpb.Election"}

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """The status that a call ended with."""

    code: str
    text: str

    @classmethod
    def of(cls, error: Any) -> Failure:
        return cls(error.code().name, error.details())


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the API by its short name, such as `KV/Put`."""

    path: str
    request: type[Message]
    response: type[Message]
    is_stream: bool


_METHODS: dict[str, Method] = {}


def method(name: str) -> Method:
    """The method; LookupError if etcd has none of this name."""
    if (found := _METHODS.get(name)) is None:
        service, _, call = name.partition("/")
        full = SERVICES.get(service, f"etcdserverpb.{service}")
        described = descriptor_pool.Default().FindMethodByName(f"{full}.{call}")
        found = _METHODS[name] = Method(
            f"/{full}/{call}",
            message_factory.GetMessageClass(described.input_type),
            message_factory.GetMessageClass(described.output_type),
            described.server_streaming,
        )
    return found


class Client:
    """Calls of one server over one connection."""

    def __init__(self, store: Datastore) -> None:
        self.store = store
        self.channel = grpc.insecure_channel(store.endpoint, options=OPTIONS)
        self._calls: dict[str, Any] = {}

    def close(self) -> None:
        self.channel.close()

    def call(
        self, name: str, request: Message, metadata: Metadata = ()
    ) -> Message | list[Message] | Failure:
        """The answer, the list of answers of a server's stream, or how it failed."""
        try:
            seconds_max = WAITING_SECONDS_MAX if name in WAITING else CALL_SECONDS_MAX
            answer = self._callable(name)(request, timeout=seconds_max, metadata=metadata)
            return list(answer) if method(name).is_stream else answer
        except grpc.RpcError as error:
            return Failure.of(error)

    def later(self, name: str, request: Message, metadata: Metadata = ()) -> Any:
        """A unary call under way."""
        call = self._callable(name)
        return call.future(request, timeout=CALL_SECONDS_MAX, metadata=metadata)

    def keep_alive(self, leases: Iterable[int], metadata: Metadata = ()) -> list[Message] | Failure:
        """The answers of a stream that asks for each lease once."""
        stream = self.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=rpc_pb2.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=rpc_pb2.LeaseKeepAliveResponse.FromString,
        )
        requests = (rpc_pb2.LeaseKeepAliveRequest(ID=lease) for lease in leases)
        try:
            return list(stream(requests, timeout=CALL_SECONDS_MAX, metadata=metadata))
        except grpc.RpcError as error:
            return Failure.of(error)

    def _callable(self, name: str) -> Any:
        if (found := self._calls.get(name)) is None:
            described = method(name)
            make = self.channel.unary_stream if described.is_stream else self.channel.unary_unary
            found = self._calls[name] = make(
                described.path,
                request_serializer=described.request.SerializeToString,
                response_deserializer=described.response.FromString,
            )
        return found


class Watch:
    """A stream of Watch; a thread of its own collects what it is told."""

    def __init__(self, client: Client, metadata: Metadata = ()) -> None:
        self._requests: queue.SimpleQueue[rpc_pb2.WatchRequest | None] = queue.SimpleQueue()
        stream = client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc_pb2.WatchRequest.SerializeToString,
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )
        self._call = stream(iter(self._requests.get, None), metadata=metadata)
        self._arrived = threading.Condition()
        self.told: list[rpc_pb2.WatchResponse] = []
        self.failure: Failure | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, request: rpc_pb2.WatchRequest) -> None:
        self._requests.put(request)

    def wait(self, count: int, seconds_max: float) -> bool:
        """Whether more than `count` responses have come, or the end, within the time."""
        deadline = time.monotonic() + seconds_max
        with self._arrived:
            while len(self.told) <= count and self.failure is None:
                if not self._arrived.wait(max(0.0, deadline - time.monotonic())):
                    return False
        return True

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._reader.join()

    def _read(self) -> None:
        failure = Failure("OK", "")
        try:
            for response in self._call:
                with self._arrived:
                    self.told.append(response)
                    self._arrived.notify_all()
        except grpc.RpcError as error:
            failure = Failure.of(error)
        with self._arrived:
            self.failure = failure
            self._arrived.notify_all()
