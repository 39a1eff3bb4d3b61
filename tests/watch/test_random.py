"""Seeded chaos: every watcher gets each of its events exactly once, in order, or is cancelled.

Writers, late publishes, slow clients, compactions, cancels, restores and progress requests run in a
random order against a model that knows every event. A failure names its seed; the seed replays
the choices (reader threads add their own timing, so run it a few times).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from kvshim.pb.etcd import rpc_pb2
from kvshim.types import EventKind, KeyRange, Revision
from kvshim.watch import batch, catchup, outbox, recent
from kvshim.watch.seams import Event
from tests.watch.conftest import Client, Created, Node

KEYS = [b"a", b"ab", b"b", b"ba", b"c", b"\xff"]
STEPS = 250


@dataclass
class Watched:
    """What the model knows of one watcher."""

    keys: KeyRange
    start: int
    excluded: set[EventKind]
    prev_kv: bool
    got: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    promised: int = 0  # all events up to here must have been seen
    created: bool = False
    cancelled: bool = False
    compacted_at: int = 0


class Chaos:
    def __init__(self, node: Node, seed: int) -> None:
        self.node = node
        self.rng = random.Random(seed)
        self.unpublished: deque[tuple[Revision, Sequence[Event]]] = deque()
        self.live: set[bytes] = set()
        self.clients = [node.client() for _ in range(3)]
        self.watched: list[dict[int, Watched]] = [{}, {}, {}]
        self.all: list[Watched] = []
        self.next_id = 1

    async def run(self) -> None:
        actions = [
            (self.write, 30),
            (self.publish, 25),
            (self.create, 8),
            (self.stall, 5),
            (self.unstall, 8),
            (self.cancel, 2),
            (self.compact, 2),
            (self.forget, 4),
            (self.restore, 1),
            (self.progress, 5),
        ]
        choices = [action for action, weight in actions for _ in range(weight)]
        for _ in range(STEPS):
            self.rng.choice(choices)()
            if self.rng.random() < 0.4:
                await asyncio.sleep(self.rng.choice([0, 0, 0, 0.001]))
            self.check_responses()
        await self.finish()

    def write(self) -> None:
        transactions = []
        for _ in range(self.rng.randrange(1, 4)):
            transaction: list[tuple[bytes, bytes | None]] = []
            for key in self.rng.sample(KEYS, self.rng.randrange(1, 4)):
                if key in self.live and self.rng.random() < 0.3:
                    transaction.append((key, None))
                    self.live.discard(key)
                else:
                    transaction.append((key, bytes(self.rng.randrange(300))))
                    self.live.add(key)
            transactions.append(transaction)
        events = self.node.store.commit(*transactions)
        self.unpublished.append((self.node.store.revision, events))

    def publish(self) -> None:
        if self.unpublished:
            revision, events = self.unpublished.popleft()
            self.node.hub.publish(revision, events)

    def create(self) -> None:
        at = self.rng.randrange(3)
        start, end = sorted(self.rng.sample([*KEYS, b"d"], 2))
        keys = self.rng.choice(
            [KeyRange(start, end), KeyRange.of(start, b""), KeyRange(b"a", None)]
        )
        revision = self.node.store.revision
        first = self.rng.choice([0, revision, revision + 3, self.rng.randrange(1, revision + 2)])
        filters = self.rng.choice([[], [], [Created.NOPUT], [Created.NODELETE]])
        watched = Watched(
            keys,
            first,
            {EventKind.PUT if kind == Created.NOPUT else EventKind.DELETE for kind in filters},
            self.rng.random() < 0.5,
        )
        self.watched[at][self.next_id] = watched
        self.all.append(watched)
        self.clients[at].create(
            keys.start,
            b"" if keys.is_single else (keys.end or b"\x00"),
            start_revision=first,
            watch_id=self.next_id,
            filters=filters,
            prev_kv=watched.prev_kv,
            fragment=self.rng.random() < 0.5,
        )
        self.next_id += 1

    def stall(self) -> None:
        self.rng.choice(self.clients).call.window.clear()

    def unstall(self) -> None:
        self.rng.choice(self.clients).call.window.set()

    def cancel(self) -> None:
        at = self.rng.randrange(3)
        if self.watched[at]:
            self.clients[at].cancel(self.rng.choice(list(self.watched[at])))

    def compact(self) -> None:
        store = self.node.store
        store.compact(self.rng.randrange(store.compact_revision, store.revision) + 1)

    def forget(self) -> None:
        self.node.forget_recent()

    def restore(self) -> None:
        self.unpublished.clear()
        self.node.hub.restored(self.node.store.revision)

    def progress(self) -> None:
        self.rng.choice(self.clients).progress()

    def check_responses(self) -> None:
        for at, client in enumerate(self.clients):
            while not client.call.responses.empty():
                self.check(at, client.call.responses.get_nowait())

    def check(self, at: int, response: rpc_pb2.WatchResponse) -> None:
        revision = response.header.revision
        if response.watch_id == -1:
            for watched in self.watched[at].values():
                live = watched.created and not watched.cancelled
                newest = watched.got[-1][0] if live and watched.got else 0
                assert revision >= newest, "progress told less than the events before it"
                if live and watched.start <= revision:
                    watched.promised = max(watched.promised, revision)
                    self.check_complete(watched, watched.promised)
            return
        watched = self.watched[at][response.watch_id]
        if response.created:
            watched.created = True
            watched.start = watched.start or revision + 1
            return
        if response.canceled:
            watched.compacted_at = response.compact_revision
            watched.cancelled = True
            return
        assert not watched.cancelled, "an event after the end"
        for event in response.events:
            watched.got.append((event.kv.mod_revision, event.kv.key, event.kv.value))
        if not response.fragment:
            self.check_complete(watched, watched.got[-1][0])

    def expected(self, watched: Watched, end: int) -> list[tuple[int, bytes, bytes]]:
        return [
            (event.revision, event.key, event.value)
            for event in self.node.store.events
            if watched.start <= event.revision <= end
            and watched.keys.contains(event.key)
            and event.kind not in watched.excluded
        ]

    def check_complete(self, watched: Watched, end: int) -> None:
        got = [each for each in watched.got if each[0] <= end]
        assert got == self.expected(watched, end)

    async def finish(self) -> None:
        while self.unpublished:
            self.publish()
        for client in self.clients:
            client.call.window.set()
        for at, client in enumerate(self.clients):
            for watch_id, watched in self.watched[at].items():
                if watched.start > self.node.store.revision or watched.cancelled:
                    client.cancel(watch_id)
        async with asyncio.timeout(10):
            for at, client in enumerate(self.clients):
                await self.settle(at, client)
        for watched in self.all:
            end = self.node.store.revision if not watched.cancelled else 0
            self.check_complete(watched, end or (watched.got[-1][0] if watched.got else 0))

    async def settle(self, at: int, client: Client) -> None:
        """Read until the stream says that it is complete."""
        if not self.watched[at]:
            return
        client.create(b"sentinel", watch_id=(1 << 40) + at)
        self.watched[at][(1 << 40) + at] = Watched(KeyRange.of(b"sentinel", b""), 0, set(), False)
        while True:
            client.progress()
            await asyncio.sleep(0.005)
            while not client.call.responses.empty():
                response = client.call.responses.get_nowait()
                self.check(at, response)
                if response.compact_revision:
                    client.cancel(response.watch_id)
                final = response.header.revision == self.node.store.revision
                if response.watch_id == -1 and final:
                    return


@pytest.mark.parametrize("seed", range(60))
async def test_exactly_once_in_order(
    node: Node, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(catchup, "SLICE_BYTES", rng.choice([300, 2000, 1 << 20]))
    monkeypatch.setattr(catchup, "MIXED_GROUP_MIN", rng.choice([2, 16]))
    monkeypatch.setattr(catchup, "GROUP_SPREAD_REVISIONS", rng.choice([3, 1000]))
    monkeypatch.setattr(outbox, "QUEUE_BYTES_MAX", rng.choice([1000, 4000, 4 << 20]))
    monkeypatch.setattr(outbox, "QUEUE_BYTES_RESUME", rng.choice([0, 500]))
    monkeypatch.setattr(outbox, "MERGED_BYTES_MAX", rng.choice([0, 3000]))
    monkeypatch.setattr(recent, "RECENT_EVENTS_MAX", rng.choice([0, 5, 50]))
    monkeypatch.setattr(batch, "RESPONSE_BYTES_TARGET", rng.choice([100, 1 << 20]))
    print(f"seed {seed}")
    await Chaos(node, seed).run()
