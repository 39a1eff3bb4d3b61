"""Clients that live through a cluster's troubles: writers, readers and watchers, a thread each.

None sends anything twice: a call without an answer is on record as perhaps done, and the client
goes on at the next endpoint with another value. Watchers go on at the revision behind the last they
saw.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.member import CHANNEL_OPTIONS
from tests.cluster.record import Event, Op, Record
from tests.support.grpc_client import EtcdClient, prefix_end

PREFIX = b"/cluster/"
REGISTERS = 6
CALL_SECONDS = 3.0
BACKOFF_SECONDS = 0.02
WATCH_SETTLE_SECONDS = 20.0
JOIN_SECONDS_MAX = 15.0
HAS_LEADER = (("hasleader", "true"),)


class Endpoints:
    """Channels to all members; whoever uses them takes the next after an error."""

    def __init__(self, targets: Sequence[str], first: int) -> None:
        self._targets = targets
        self._at = first % len(targets)
        self._channels: dict[str, grpc.Channel] = {}

    def next(self) -> None:
        self._at = (self._at + 1) % len(self._targets)

    @property
    def channel(self) -> grpc.Channel:
        target = self._targets[self._at]
        if target not in self._channels:
            self._channels[target] = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        return self._channels[target]

    def call(self, method: str, request: Any, response_type: Any, timeout: float) -> Any:
        call = self.channel.unary_unary(
            "/etcdserverpb.KV/" + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response_type.FromString,
        )
        return call(request, timeout=timeout)

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()


class Client:
    """A closed loop of puts, compares and gets on a few keys, in a thread of its own."""

    def __init__(
        self,
        number: int,
        targets: Sequence[str],
        record: Record,
        *,
        writes: float,
        pause_seconds: float,
        seed: int,
        value_bytes: int = 0,
    ) -> None:
        self._number = number
        self._endpoints = Endpoints(targets, number)
        self._record = record
        self._writes = writes
        self._pause_seconds = pause_seconds
        self._padding = b"." * value_bytes
        self._random = random.Random(seed * 1000 + number)
        self._serial = itertools.count(1)
        self._known: dict[bytes, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"client-{number}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(JOIN_SECONDS_MAX)
        assert not self._thread.is_alive(), f"client {self._number} hangs"

    def _run(self) -> None:
        while not self._stop.wait(self._pause_seconds):
            op = self._choose()
            try:
                self._send(op)
            except grpc.RpcError as error:
                op.error = f"{error.code().name}: {error.details()}"
                self._endpoints.next()
                self._stop.wait(BACKOFF_SECONDS)
        self._endpoints.close()

    def _choose(self) -> Op:
        at = self._random.randrange(REGISTERS)
        if self._random.random() >= self._writes:
            return self._record.begin(self._number, "get", PREFIX + b"r%d" % at, None)
        value = b"%d-%d" % (self._number, next(self._serial)) + self._padding
        if self._random.random() < 0.3:
            key = PREFIX + b"c%d" % at
            return self._record.begin(self._number, "cas", key, value, self._known.get(key, 0))
        return self._record.begin(self._number, "put", PREFIX + b"r%d" % at, value)

    def _send(self, op: Op) -> None:
        match op.kind:
            case "get":
                answer = self._call("Range", pb.RangeRequest(key=op.key), pb.RangeResponse)
                if answer.kvs:
                    op.value, op.mod_revision = answer.kvs[0].value, answer.kvs[0].mod_revision
            case "put":
                request = pb.PutRequest(key=op.key, value=op.value or b"")
                answer = self._call("Put", request, pb.PutResponse)
            case _:
                answer = self._call("Txn", compare_and_put(op), pb.TxnResponse)
                op.took = answer.succeeded
                if answer.succeeded:
                    self._known[op.key] = answer.header.revision
                else:
                    kvs = answer.responses[0].response_range.kvs
                    self._known[op.key] = kvs[0].mod_revision if kvs else 0
        op.revision = answer.header.revision
        op.end = time.monotonic()

    def _call(self, method: str, request: Any, response_type: Any) -> Any:
        return self._endpoints.call(method, request, response_type, CALL_SECONDS)


def compare_and_put(op: Op) -> pb.TxnRequest:
    """Put if the key's last revision is the expected one, else read it."""
    compare = pb.Compare(
        key=op.key, target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=op.expected
    )
    put = pb.PutRequest(key=op.key, value=op.value or b"")
    return pb.TxnRequest(
        compare=[compare],
        success=[pb.RequestOp(request_put=put)],
        failure=[pb.RequestOp(request_range=pb.RangeRequest(key=op.key))],
    )


class Watcher:
    """Watches everything the clients write; each stream begins where the last one ended."""

    def __init__(self, number: int, targets: Sequence[str], start_revision: int = 2) -> None:
        self.number = number
        self.events: list[Event] = []
        self.resumed = 0
        self.problem = ""
        self._next = start_revision
        self._endpoints = Endpoints(targets, number)
        self._metadata = HAS_LEADER if number % 2 else ()
        self._call: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watcher-{number}", daemon=True)
        self._thread.start()

    @property
    def seen(self) -> int:
        """The last revision that came."""
        return self._next - 1

    def stop(self) -> None:
        self._stop.set()
        if self._call is not None:
            self._call.cancel()

    def join(self) -> None:
        self._thread.join(JOIN_SECONDS_MAX)
        assert not self._thread.is_alive(), f"watcher {self.number} hangs"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            except grpc.RpcError:
                self._endpoints.next()
                self.resumed += 1
                self._stop.wait(BACKOFF_SECONDS)
        self._endpoints.close()

    def _watch(self) -> None:
        create = pb.WatchCreateRequest(
            key=PREFIX, range_end=prefix_end(PREFIX), start_revision=self._next
        )
        over = threading.Event()

        def requests() -> Iterator[pb.WatchRequest]:
            yield pb.WatchRequest(create_request=create)
            over.wait()

        method = self._endpoints.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )
        self._call = method(requests(), metadata=self._metadata)
        try:
            for response in self._call:
                if response.canceled:
                    # A stream without a leader, or a node that stops: another one will do.
                    if response.compact_revision:
                        self.problem = f"compacted at {response.compact_revision}"
                        self._stop.set()
                    break
                self._take(response)
        finally:
            self._call.cancel()
            over.set()
        self._endpoints.next()
        self.resumed += 1

    def _take(self, response: pb.WatchResponse) -> None:
        for event in response.events:
            value = None if event.type == event.DELETE else event.kv.value
            self.events.append(Event(event.kv.mod_revision, event.kv.key, value))
        if response.events:
            self._next = response.events[-1].kv.mod_revision + 1


@dataclass(slots=True)
class Traffic:
    """Clients and watchers of a cluster, in a `with` block; `check` proves what they saw."""

    targets: Sequence[str]
    seed: int = 1
    clients: int = 4
    watchers: int = 3
    writes: float = 0.7
    pause_seconds: float = 0.004
    value_bytes: int = 0
    record: Record = field(default_factory=Record)
    running: list[Client] = field(default_factory=list)
    watching: list[Watcher] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.watching = [Watcher(n, self.targets) for n in range(self.watchers)]
        self.running = [
            Client(
                number,
                self.targets,
                self.record,
                writes=self.writes,
                pause_seconds=self.pause_seconds,
                seed=self.seed,
                value_bytes=self.value_bytes,
            )
            for number in range(self.clients)
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_clients()
        for watcher in self.watching:
            watcher.stop()
        if failure is None:
            for watcher in self.watching:
                watcher.join()

    def stop_clients(self) -> None:
        """No new calls; waits for those in flight."""
        for client in self.running:
            client.stop()
        for client in self.running:
            client.join()

    def wait_writes(self, count: int, seconds: float) -> None:
        """Until so many more writes are acknowledged than now."""
        began = time.monotonic()
        while len(self.record.acknowledged(began)) < count:
            waited = time.monotonic() - began
            assert waited < seconds, f"fewer than {count} writes: {self.record.errors()}"
            time.sleep(0.02)

    def check(self, target: str) -> list[Event]:
        """After the last write: histories and watchers agree. The history."""
        self.stop_clients()
        history = read_history(target)
        self.record.check(history)
        deadline = time.monotonic() + WATCH_SETTLE_SECONDS
        head = history[-1].revision if history else 1
        for watcher in self.watching:
            while watcher.seen < head and not watcher.problem and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not watcher.problem, f"watcher {watcher.number}: {watcher.problem}"
            assert watcher.events == history, difference(watcher, history)
        return history


def difference(watcher: Watcher, history: list[Event]) -> str:
    """Where a watcher first saw something else than the history."""
    pairs = itertools.zip_longest(watcher.events, history)
    at, (seen, real) = next((n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1])
    return (
        f"watcher {watcher.number}, resumed {watcher.resumed} times, saw {seen} as event {at} "
        f"instead of {real}; {len(watcher.events)} seen of {len(history)}"
    )


def read_history(target: str) -> list[Event]:
    """Every event under the prefix from the first revision to the present."""
    with client(target) as etcd:
        head = etcd.list_prefix(PREFIX)
        last = max((kv.mod_revision for kv in head.kvs), default=0)
        found: list[Event] = []
        if not last:
            return found
        with etcd.watch_stream() as stream:
            stream.create(PREFIX, prefix_end(PREFIX), start_revision=2)
            while not found or found[-1].revision < last:
                for event in stream.next().events:
                    value = None if event.type == event.DELETE else event.kv.value
                    found.append(Event(event.kv.mod_revision, event.kv.key, value))
    return found


@contextmanager
def client(target: str) -> Iterator[EtcdClient]:
    """A client of one member."""
    etcd = EtcdClient(target)
    try:
        yield etcd
    finally:
        etcd.close()
