"""A store in memory with the history rules of the real one, and a client without a transport."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import Message

from kvshim import errors
from kvshim.backend.backend import Backend
from kvshim.mvcc.encoding import varint
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import kv_pb2, rpc_pb2
from kvshim.types import NO_LEASE, EventKind, KeyRange, Revision
from kvshim.watch.seams import Event, HistoryView


@dataclass(frozen=True)
class FakeEvent:
    """An event that encodes itself by way of the generated classes, as an oracle."""

    kind: EventKind
    revision: Revision
    key: bytes
    value: bytes = b""
    create_revision: int = 0
    version: int = 0
    prev: FakeEvent | None = None

    @property
    def size(self) -> int:
        return len(self.key) + len(self.value)

    def key_value(self) -> kv_pb2.KeyValue:
        if self.kind is EventKind.DELETE:
            return kv_pb2.KeyValue(key=self.key, mod_revision=self.revision)
        return kv_pb2.KeyValue(
            key=self.key,
            value=self.value,
            create_revision=self.create_revision,
            mod_revision=self.revision,
            version=self.version,
        )

    def message(self, with_prev: bool) -> kv_pb2.Event:
        event = kv_pb2.Event(type=self.kind.name, kv=self.key_value())
        if with_prev and self.prev is not None:
            event.prev_kv.CopyFrom(self.prev.key_value())
        return event

    def encoded(self, with_prev: bool) -> bytes:
        body = self.message(with_prev).SerializeToString()
        return b"\x5a" + varint(len(body)) + body


@dataclass(frozen=True)
class FakeView:
    revision: Revision
    compact_revision: Revision
    events: Sequence[FakeEvent]

    def history(
        self, keys: KeyRange, start: Revision, end: Revision, max_bytes: int
    ) -> tuple[list[FakeEvent], Revision]:
        if start < self.compact_revision:
            raise errors.Compacted
        found: list[FakeEvent] = []
        size = 0
        for event in self.events:
            if not start <= event.revision <= end:
                continue
            if size >= max_bytes and event.revision != found[-1].revision:
                return found, event.revision
            if keys.contains(event.key):
                found.append(self.without_lost_prev(event))
                size += event.size
        return found, Revision(end + 1)

    def without_lost_prev(self, event: FakeEvent) -> FakeEvent:
        if event.revision - 1 >= self.compact_revision:
            return event
        return FakeEvent(
            event.kind, event.revision, event.key, event.value, event.create_revision, event.version
        )


class FakeStore:
    """Commits transactions of (key, value or None to delete); reads wait while `gate` is shut."""

    def __init__(self) -> None:
        self.last = Revision(1)
        self.compacted = Revision(0)
        self.events: list[FakeEvent] = []
        self.reads = 0
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()
        self._live: dict[bytes, FakeEvent] = {}

    @property
    def revision(self) -> Revision:
        return self.last

    @property
    def compact_revision(self) -> Revision:
        return self.compacted

    def commit(self, *transactions: Sequence[tuple[bytes, bytes | None]]) -> Sequence[Event]:
        """Each transaction is one revision; returns the events of all."""
        with self._lock:
            made: list[FakeEvent] = []
            for transaction in transactions:
                revision = Revision(self.last + 1)
                made += [self._change(revision, key, value) for key, value in transaction]
                self.last = revision
            self.events += made
            return made

    def compact(self, revision: int) -> None:
        self.compacted = Revision(revision)

    def close(self) -> None:
        """Nothing to give back; a real store has files."""

    @contextmanager
    def read(self) -> Iterator[HistoryView]:
        self.gate.wait(30)
        with self._lock:
            self.reads += 1
            if self.failure is not None:
                raise self.failure
            view = FakeView(self.last, self.compacted, self.events[:])
        yield view

    def _change(self, revision: Revision, key: bytes, value: bytes | None) -> FakeEvent:
        prev = self._live.get(key)
        if value is None:
            assert prev is not None, "deleting what is not there makes no event"
            del self._live[key]
            return FakeEvent(EventKind.DELETE, revision, key, prev=prev)
        event = FakeEvent(
            EventKind.PUT,
            revision,
            key,
            value,
            prev.create_revision if prev else revision,
            prev.version + 1 if prev else 1,
            prev,
        )
        # Only one step back is ever told; a longer chain would keep the whole history alive.
        self._live[key] = FakeEvent(
            event.kind, revision, key, value, event.create_revision, event.version
        )
        return event


class RealStore(FakeStore):
    """The store on SQLite, driven alongside the fake one, which becomes its oracle."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._backend = Backend.open(directory / "kv-1.db")
        self._store = Store(self._backend)

    @property
    def revision(self) -> Revision:
        return self._store.revision

    @property
    def compact_revision(self) -> Revision:
        return self._store.compact_revision

    def commit(self, *transactions: Sequence[tuple[bytes, bytes | None]]) -> Sequence[Event]:
        expected = super().commit(*transactions)
        made: list[Event] = []
        with self._store.write() as batch:
            for transaction in transactions:
                txn = batch.begin()
                for key, value in transaction:
                    if value is None:
                        txn.delete_range(KeyRange.of(key, b""))
                    else:
                        txn.put(key, value, NO_LEASE)
                made += txn.finish()
        assert [e.encoded(True) for e in made] == [e.encoded(True) for e in expected]
        assert self._store.revision == self.last
        return made

    def compact(self, revision: int) -> None:
        """Logically, and then physically to the end."""
        with self._store.write() as batch:
            batch.compact(revision)
        super().compact(revision)
        while self._store.between_batches():
            pass

    @contextmanager
    def read(self) -> Iterator[HistoryView]:
        with super().read(), self._store.read() as view:
            yield view

    def close(self) -> None:
        self._backend.close()


class FakeCall:
    """One stream seen from the client: requests go in, responses wait to be read."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self.metadata = metadata
        self.peer = "test"
        self.requests: asyncio.Queue[Message | None] = asyncio.Queue()
        self.responses: asyncio.Queue[rpc_pb2.WatchResponse] = asyncio.Queue()
        self.window = asyncio.Event()
        self.window.set()

    def deadline_seconds(self) -> float | None:
        return None

    async def receive(self) -> Message | None:
        return await self.requests.get()

    async def send(self, reply: Message | bytes) -> None:
        await self.window.wait()
        assert isinstance(reply, bytes)
        response = rpc_pb2.WatchResponse.FromString(reply)
        assert response.SerializeToString() == reply, "not the canonical encoding"
        self.responses.put_nowait(response)

    def flush(self) -> None: ...


@dataclass
class FakeLog:
    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def error(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    debug = info = warn = error

    def bind(self, **fields: object) -> FakeLog:
        return self
