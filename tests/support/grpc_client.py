"""A small etcd client for black-box tests: every call by its full method name, no generated stubs.

It adds nothing to what the server answers: no retries, no defaults, no reconnecting. Owns one
channel, so its calls are blocking; a `WatchStream` adds one reader thread.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from kvshim.pb.etcd import rpc_pb2 as pb

CALL_SECONDS_MAX = 20.0
ALL = b"\x00"
Metadata = Sequence[tuple[str, str]]

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


def prefix_end(prefix: bytes) -> bytes:
    """The range end that makes `[prefix, end)` all keys with the prefix."""
    body = prefix.rstrip(b"\xff")
    return body[:-1] + bytes([body[-1] + 1]) if body else ALL


class EtcdClient:
    """Calls of the etcd v3 API on one server."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.channel = grpc.insecure_channel(target, options=OPTIONS)

    def close(self) -> None:
        self.channel.close()

    def call(self, method: str, request: Any, response_type: Any, **options: Any) -> Any:
        """One unary call, e.g. `etcdserverpb.KV/Range`."""
        options.setdefault("timeout", CALL_SECONDS_MAX)
        return self._unary(method, response_type)(request, **options)

    def call_raw(self, method: str, request: bytes = b"", **options: Any) -> bytes:
        """One unary call with bytes in and out, for services without messages of ours."""
        options.setdefault("timeout", CALL_SECONDS_MAX)
        answer: bytes = self.channel.unary_unary("/" + method)(request, **options)
        return answer

    def call_later(self, method: str, request: Any, response_type: Any) -> Any:
        """A unary call in flight; `.result()` waits for it."""
        return self._unary(method, response_type).future(request, timeout=CALL_SECONDS_MAX)

    def _unary(self, method: str, response_type: Any) -> Any:
        return self.channel.unary_unary(
            "/" + method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response_type.FromString,
        )

    # --- KV

    def range(self, key: bytes, range_end: bytes = b"", **options: Any) -> pb.RangeResponse:
        request = pb.RangeRequest(key=key, range_end=range_end, **options)
        return self.call("etcdserverpb.KV/Range", request, pb.RangeResponse)

    def list_prefix(self, prefix: bytes, **options: Any) -> pb.RangeResponse:
        return self.range(prefix, prefix_end(prefix), **options)

    def range_stream(
        self, key: bytes, range_end: bytes = b"", **options: Any
    ) -> list[pb.RangeResponse]:
        """All chunks of one streamed range."""
        method = self.channel.unary_stream(
            "/etcdserverpb.KV/RangeStream",
            request_serializer=pb.RangeRequest.SerializeToString,
            response_deserializer=pb.RangeStreamResponse.FromString,
        )
        request = pb.RangeRequest(key=key, range_end=range_end, **options)
        return [chunk.range_response for chunk in method(request, timeout=CALL_SECONDS_MAX)]

    def put(self, key: bytes, value: bytes = b"", **options: Any) -> pb.PutResponse:
        request = pb.PutRequest(key=key, value=value, **options)
        return self.call("etcdserverpb.KV/Put", request, pb.PutResponse)

    def put_later(self, key: bytes, value: bytes = b"", **options: Any) -> Any:
        request = pb.PutRequest(key=key, value=value, **options)
        return self.call_later("etcdserverpb.KV/Put", request, pb.PutResponse)

    def delete(self, key: bytes, range_end: bytes = b"", **options: Any) -> pb.DeleteRangeResponse:
        request = pb.DeleteRangeRequest(key=key, range_end=range_end, **options)
        return self.call("etcdserverpb.KV/DeleteRange", request, pb.DeleteRangeResponse)

    def txn(
        self,
        success: Iterable[pb.RequestOp] = (),
        *,
        compare: Iterable[pb.Compare] = (),
        failure: Iterable[pb.RequestOp] = (),
    ) -> pb.TxnResponse:
        request = pb.TxnRequest(compare=compare, success=success, failure=failure)
        return self.call("etcdserverpb.KV/Txn", request, pb.TxnResponse)

    def compact(self, revision: int, *, physical: bool = False) -> pb.CompactionResponse:
        request = pb.CompactionRequest(revision=revision, physical=physical)
        return self.call("etcdserverpb.KV/Compact", request, pb.CompactionResponse)

    def revision(self) -> int:
        """The store's current revision."""
        return self.range(b"no such key").header.revision

    # --- Lease

    def grant(self, ttl: int, lease_id: int = 0) -> pb.LeaseGrantResponse:
        request = pb.LeaseGrantRequest(TTL=ttl, ID=lease_id)
        return self.call("etcdserverpb.Lease/LeaseGrant", request, pb.LeaseGrantResponse)

    def revoke(self, lease_id: int) -> pb.LeaseRevokeResponse:
        request = pb.LeaseRevokeRequest(ID=lease_id)
        return self.call("etcdserverpb.Lease/LeaseRevoke", request, pb.LeaseRevokeResponse)

    def time_to_live(self, lease_id: int, *, keys: bool = False) -> pb.LeaseTimeToLiveResponse:
        request = pb.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        return self.call("etcdserverpb.Lease/LeaseTimeToLive", request, pb.LeaseTimeToLiveResponse)

    def leases(self) -> pb.LeaseLeasesResponse:
        request = pb.LeaseLeasesRequest()
        return self.call("etcdserverpb.Lease/LeaseLeases", request, pb.LeaseLeasesResponse)

    def keep_alive(self, *lease_ids: int) -> list[pb.LeaseKeepAliveResponse]:
        """One stream that asks once for each lease and reads as many answers."""
        method = self.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=pb.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=pb.LeaseKeepAliveResponse.FromString,
        )
        requests = (pb.LeaseKeepAliveRequest(ID=lease_id) for lease_id in lease_ids)
        return list(method(requests, timeout=CALL_SECONDS_MAX))

    # --- Cluster and Maintenance

    def members(self, *, linearizable: bool = True) -> pb.MemberListResponse:
        request = pb.MemberListRequest(linearizable=linearizable)
        return self.call("etcdserverpb.Cluster/MemberList", request, pb.MemberListResponse)

    def status(self) -> pb.StatusResponse:
        return self.call("etcdserverpb.Maintenance/Status", pb.StatusRequest(), pb.StatusResponse)

    def alarm(self, action: int, *, member_id: int = 0, alarm: int = 0) -> pb.AlarmResponse:
        request = pb.AlarmRequest(action=action, memberID=member_id, alarm=alarm)
        return self.call("etcdserverpb.Maintenance/Alarm", request, pb.AlarmResponse)

    def defragment(self) -> pb.DefragmentResponse:
        request = pb.DefragmentRequest()
        return self.call("etcdserverpb.Maintenance/Defragment", request, pb.DefragmentResponse)

    def hash(self) -> pb.HashResponse:
        return self.call("etcdserverpb.Maintenance/Hash", pb.HashRequest(), pb.HashResponse)

    def hash_kv(self, revision: int = 0) -> pb.HashKVResponse:
        request = pb.HashKVRequest(revision=revision)
        return self.call("etcdserverpb.Maintenance/HashKV", request, pb.HashKVResponse)

    # --- Watch

    @contextmanager
    def watch_stream(self, metadata: Metadata = ()) -> Iterator["WatchStream"]:
        stream = WatchStream(self.channel, metadata)
        try:
            yield stream
        finally:
            stream.close()


class WatchStream:
    """One Watch stream. Responses are queued by a reader thread, in the order they arrived."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata = ()) -> None:
        self._requests: queue.SimpleQueue[pb.WatchRequest | None] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[pb.WatchResponse | grpc.RpcError] = queue.SimpleQueue()
        method = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )
        self._call = method(iter(self._requests.get, None), metadata=metadata)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._responses.put(response)
        except grpc.RpcError as error:
            self._responses.put(error)

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._reader.join()

    def send(self, request: pb.WatchRequest) -> None:
        self._requests.put(request)

    def send_create(self, key: bytes, range_end: bytes = b"", **options: Any) -> None:
        create = pb.WatchCreateRequest(key=key, range_end=range_end, **options)
        self.send(pb.WatchRequest(create_request=create))

    def send_cancel(self, watch_id: int) -> None:
        self.send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id)))

    def send_progress_request(self) -> None:
        self.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def create(self, key: bytes, range_end: bytes = b"", **options: Any) -> pb.WatchResponse:
        """Create a watch and return its first response, which must be `created`."""
        self.send_create(key, range_end, **options)
        response = self.next()
        assert response.created, response
        return response

    def next(self, seconds_max: float = 10.0) -> pb.WatchResponse:
        """The next response; fails if none arrives or the stream ended."""
        try:
            response = self._responses.get(timeout=seconds_max)
        except queue.Empty:
            raise AssertionError(f"no watch response in {seconds_max} s") from None
        if isinstance(response, grpc.RpcError):
            raise response
        return response

    def responses_until(self, count: int) -> list[pb.WatchResponse]:
        """Responses until they hold `count` events; nothing but events may come."""
        responses: list[pb.WatchResponse] = []
        deadline = time.monotonic() + CALL_SECONDS_MAX
        while sum(len(response.events) for response in responses) < count:
            response = self.next(max(0.0, deadline - time.monotonic()))
            assert response.events, response
            responses.append(response)
        return responses

    def events(self, count: int) -> list[Any]:
        """The next `count` events, whatever their packing; one more is a failure."""
        events = [e for response in self.responses_until(count) for e in response.events]
        assert len(events) == count, events
        return events
