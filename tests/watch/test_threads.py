"""The hub as the node drives it: commits on one thread, publishes on the loop, reads on others."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence

import pytest

from kvshim.types import Revision
from kvshim.watch import outbox, recent
from kvshim.watch.seams import Event
from tests.watch.conftest import Client, Node

WRITES = 600


class Writer(threading.Thread):
    """Commits batches as fast as it can and posts each to the loop afterwards."""

    def __init__(self, node: Node, seed: int) -> None:
        super().__init__()
        self.node = node
        self.loop = asyncio.get_running_loop()
        self.rng = random.Random(seed)

    def run(self) -> None:
        for _ in range(WRITES):
            batch = [
                [(b"k%d" % self.rng.randrange(20), b"v")] for _ in range(self.rng.randrange(1, 4))
            ]
            events = self.node.store.commit(*batch)
            self.loop.call_soon_threadsafe(self.publish, events)

    def publish(self, events: Sequence[Event]) -> None:
        if self.rng.random() < 0.05:
            self.node.forget_recent()
        self.node.hub.publish(events[-1].revision, events)


async def follow(node: Node, client: Client, rng: random.Random, done: asyncio.Event) -> None:
    """Watch all keys from a revision in the past until everything was written; miss nothing."""
    start = rng.randrange(1, node.store.revision + 1)
    await client.created(b"k", b"l", start_revision=start, prev_kv=True)
    expected = max(start, 2)
    while not done.is_set() or expected <= node.store.revision:
        if rng.random() < 0.1:
            client.call.window.clear()
            await asyncio.sleep(rng.random() * 0.02)
            client.call.window.set()
        if rng.random() < 0.1:
            client.progress()
        response = await client.next()
        for event in response.events:
            assert event.kv.mod_revision == expected
            expected += 1
        assert response.watch_id != -1 or response.header.revision == expected - 1


@pytest.mark.parametrize("seed", range(3))
async def test_watchers_come_and_go_under_a_writer(
    node: Node, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "QUEUE_BYTES_MAX", 5000)
    monkeypatch.setattr(outbox, "QUEUE_BYTES_RESUME", 2500)
    monkeypatch.setattr(recent, "RECENT_EVENTS_MAX", 20)
    print(f"seed {seed}")
    rng = random.Random(seed)
    writer = Writer(node, seed)
    written = asyncio.Event()
    writer.start()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        while writer.is_alive():
            tasks.create_task(follow(node, node.client(), rng, written))
            await asyncio.sleep(rng.random() * 0.1)
        # The last publishes are queued on the loop before this.
        await asyncio.sleep(0)
        written.set()
        node.put(b"k", b"the end")
    assert node.hub.revision == node.store.revision
    assert node.hub.slow_watcher_count == 0
    assert Revision(node.store.revision) > WRITES
