"""Clients that never rest: writers, overlapping lists, old pages, a lease, a watch, a compactor.

Each is a thread with a connection of its own. Whatever one of them gets that it should not get is
a failure, told with its traceback; none of them repeats a request. Objects live under `OBJECTS`:
their number stays the same while their values change, so every list has to have all of them.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kvshim.pb.etcd import kv_pb2
from tests.support.grpc_client import EtcdClient, prefix_end

OBJECTS = b"objects/"
CHURN = b"churn/"
LEASED = b"leased/holder"
VALUE_BYTES = (1024, 4096)

PAGE = 500
COMPACT_EVERY_SECONDS = 2.0
LEASE_TTL_SECONDS = 5
KEEP_ALIVE_SECONDS = 1.0
IN_FLIGHT_MAX = 64


class Wrong(AssertionError):
    """An answer that must not be."""


def value_of(key: bytes, rng: random.Random) -> bytes:
    """A value of random length that says whose it is."""
    return (key + b"=").ljust(rng.randint(*VALUE_BYTES), b"v")


def object_key(number: int) -> bytes:
    return OBJECTS + b"%06d" % number


def load_objects(client: EtcdClient, count: int, rng: random.Random) -> None:
    """Write all objects once, a bounded number of them at a time."""
    for first in range(0, count, IN_FLIGHT_MAX):
        keys = map(object_key, range(first, min(first + IN_FLIGHT_MAX, count)))
        for call in [client.put_later(key, value_of(key, rng)) for key in keys]:
            call.result()


@dataclass(slots=True)
class Record:
    """What happened, from all threads."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, kind: str, seconds: float) -> None:
        with self._lock:
            self.counts[kind] += 1
            self.seconds[kind].append(seconds)

    def failed(self, kind: str) -> None:
        with self._lock:
            self.failures.append(f"{kind}: {traceback.format_exc()}")

    def percentile(self, kind: str, percent: float) -> float:
        """Seconds that so many percent of the calls of a kind took at most."""
        ordered = sorted(self.seconds[kind])
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Held:
    """Revisions that somebody still reads at: the compactor stays below them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._revisions: list[int] = []
        self._seen = 1

    def see(self, revision: int) -> None:
        """A revision that the store has reached."""
        with self._lock:
            self._seen = max(self._seen, revision)

    @contextmanager
    def here(self) -> Iterator[int]:
        """Hold the newest revision seen."""
        with self._lock:
            revision = self._seen
            self._revisions.append(revision)
        try:
            yield revision
        finally:
            with self._lock:
                self._revisions.remove(revision)

    def compactable(self) -> int:
        """The newest revision that nobody reads at."""
        with self._lock:
            return min(self._revisions, default=self._seen)


class Load:
    """Starts the clients; in a `with` block. `objects` were written before."""

    def __init__(self, target: str, objects: int, rng: random.Random) -> None:
        self.record = Record()
        self.held = Held()
        self.compacted = 0
        self._target = target
        self._objects = objects
        self._rng = rng
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every client after the call it is in."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"{thread.name} hangs"
        self._threads.clear()

    def start(self, *works: Callable[[EtcdClient, random.Random], None]) -> None:
        """Give each of these methods a thread of its own, to be called again and again."""
        for work in works:
            rng = random.Random(self._rng.random())
            thread = threading.Thread(
                target=self._run, args=(work, rng), name=work.__name__, daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _run(self, work: Callable[[EtcdClient, random.Random], None], rng: random.Random) -> None:
        client = EtcdClient(self._target)
        try:
            while not self._stopping.is_set():
                work(client, rng)
        except Exception:
            self.record.failed(work.__name__)
            self._stopping.set()
        finally:
            client.close()

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.record.done(kind, time.monotonic() - began)

    # --- what a client does; `start` takes these

    def write(self, client: EtcdClient, rng: random.Random) -> None:
        """Change an object, or let a short-lived key come and go."""
        if rng.random() < 0.8:
            key = object_key(rng.randrange(self._objects))
            with self._timed("put"):
                answer = client.put(key, value_of(key, rng))
            self.held.see(answer.header.revision)
            return
        key = CHURN + b"%016x" % rng.getrandbits(64)
        with self._timed("put"):
            client.put(key, value_of(key, rng))
        with self._timed("delete"):
            deleted = client.delete(key).deleted
        if deleted != 1:
            raise Wrong(f"{key!r} was deleted {deleted} times")

    def list_all(self, client: EtcdClient, _rng: random.Random) -> None:
        """One list of everything; several of these overlap all the time."""
        with self._timed("list"):
            answer = client.list_prefix(OBJECTS)
        self._check(answer.kvs, answer.header.revision)
        if answer.more or answer.count != self._objects:
            raise Wrong(f"more={answer.more} count={answer.count}")

    def stream_all(self, client: EtcdClient, _rng: random.Random) -> None:
        """The same as a stream of chunks."""
        with self.held.here(), self._timed("stream"):
            chunks = client.range_stream(OBJECTS, prefix_end(OBJECTS))
        pairs = [kv for chunk in chunks for kv in chunk.kvs]
        self._check(pairs, chunks[-1].header.revision)

    def list_pages(self, client: EtcdClient, rng: random.Random) -> None:
        """Pages at a revision that becomes older with each of them."""
        with self.held.here() as revision:
            pairs: list[kv_pb2.KeyValue] = []
            key = OBJECTS
            more = True
            while more and not self._stopping.is_set():
                with self._timed("page"):
                    answer = client.range(key, prefix_end(OBJECTS), limit=PAGE, revision=revision)
                pairs += answer.kvs
                key = answer.kvs[-1].key + b"\x00"
                more = answer.more
                if answer.count != self._objects - len(pairs) + len(answer.kvs):
                    raise Wrong(f"count={answer.count} of a page after {len(pairs)} keys")
                self._stopping.wait(rng.uniform(0, 0.3))
            if not more:
                self._check(pairs, revision)

    def keep_lease(self, client: EtcdClient, _rng: random.Random) -> None:
        """Hold a key by a short lease; it may never be lost."""
        lease = client.grant(LEASE_TTL_SECONDS).ID
        created = client.put(LEASED, b"held", lease=lease).header.revision
        while not self._stopping.wait(KEEP_ALIVE_SECONDS):
            with self._timed("keep alive"):
                (answer,) = client.keep_alive(lease)
            if answer.TTL <= 0:
                raise Wrong("the lease ran out although it was kept alive")
        (pair,) = client.range(LEASED).kvs
        if pair.create_revision != created:
            raise Wrong("the leased key was lost in between")

    def watch(self, client: EtcdClient, _rng: random.Random) -> None:
        """Follow every object: no version may be left out, repeated or out of order."""
        versions: dict[bytes, int] = {}
        last = 0
        with client.watch_stream() as stream:
            stream.create(OBJECTS, prefix_end(OBJECTS))
            while not self._stopping.is_set():
                for event in stream.next().events:
                    kv = event.kv
                    expected = versions.get(kv.key, kv.version - 1) + 1
                    if kv.version != expected or kv.mod_revision <= last:
                        raise Wrong(f"{kv.key!r} came as version {kv.version} of {expected}")
                    versions[kv.key], last = kv.version, kv.mod_revision
                    self.record.counts["watched"] += 1

    def compact(self, client: EtcdClient, _rng: random.Random) -> None:
        """What kube-apiserver does, only far more often: forget what nobody reads any more."""
        old = self.held.compactable()
        if self._stopping.wait(COMPACT_EVERY_SECONDS):
            return
        revision = min(old, self.held.compactable())
        if revision > self.compacted:
            with self._timed("compact"):
                client.compact(revision)
            self.compacted = revision

    def _check(self, pairs: Sequence[kv_pb2.KeyValue], revision: int) -> None:
        if len(pairs) != self._objects:
            raise Wrong(f"{len(pairs)} objects of {self._objects} at {revision}")
        for number, pair in enumerate(pairs):
            if pair.key != object_key(number) or not pair.value.startswith(pair.key + b"="):
                raise Wrong(f"object {number} came as {pair.key!r}")
            if pair.mod_revision > revision:
                raise Wrong(f"{pair.key!r} is of {pair.mod_revision}, read at {revision}")
