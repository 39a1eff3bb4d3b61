"""One simulated process: the production core, its disk and state machine, as a caller runs them.

It does what `raft.core.ready` asks for, and nothing else: writes in order, sends what may leave,
applies what is committed. It may be slow at each of these, be paused, killed or lose its power.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from raft.core import CoreOptions, Entry, Node, Ready, SnapshotMeta, SnapshotOrder, StartState
from raft.core.messages import InstallSnapshot, Message
from raft.core.replica import Replica
from tests.raft_core import render
from tests.sim.disk import Disk, DiskFull
from tests.sim.machine import Registers
from tests.sim.network import Network
from tests.sim.safety import Safety
from tests.sim.world import World

TICK_US = 100_000


def tick(node: Node) -> None:
    """One tick; one that was said to count only may do nothing."""
    only_counts = node.ticks_until_due() > 1 and not node.has_ready()
    node.tick()
    assert not (only_counts and node.has_ready()), "a tick did more than it was said to do"


@dataclass(slots=True)
class Outcome:
    """What a member tells its clients."""

    applied: Callable[[int, int], None]
    read: Callable[[int, int], None]
    lost: Callable[[int], None]
    refused: Callable[[int, int], None]


@dataclass(slots=True)
class Speed:
    """How long things take, in microseconds, and how fast the clock runs."""

    write_us: tuple[float, float] = (500, 5_000)
    apply_us: tuple[float, float] = (10, 2_000)
    clock: float = 1.0


@dataclass(slots=True)
class Member:
    """A process that may be up or down; `life` counts its starts."""

    world: World
    network: Network
    safety: Safety
    options: CoreOptions
    disk: Disk
    speed: Speed
    tell: Outcome
    node: Node | None = None
    life: int = 0
    paused_until_us: int = 0
    to_apply: deque[Entry] = field(default_factory=deque)
    snapshots: dict[SnapshotMeta, Registers] = field(default_factory=dict)
    reads: list[tuple[int, int]] = field(default_factory=list)
    last_words: str = ""
    when_installing: Callable[[], None] | None = None
    """Happens while the next snapshot is being written."""
    _pumping: bool = False
    _applying: bool = False

    @property
    def id(self) -> int:
        return self.options.member_id

    @property
    def up(self) -> bool:
        return self.node is not None

    @property
    def replica(self) -> Replica:
        """Only for observers."""
        assert self.node is not None
        return self.node._replica

    def value(self, key: str) -> int:
        """What a client reads."""
        return self.disk.store.values.get(key, 0)

    def removed(self) -> frozenset[int]:
        """Who may never come back: in this model, anybody may."""
        return frozenset()

    def start(self) -> None:
        """Start from what the disk holds."""
        disk = self.disk
        disk.start()
        self.life += 1
        self.world.say(self.id, "starts at", disk.store.index)
        state = StartState(disk.hard_state, disk.store.membership, disk.store.index)
        random = Random(self.world.random.getrandbits(64))
        self.node = Node(self.options, disk.log, state, random)
        self._later(self.world.between(0, TICK_US), self._tick)
        self._pump()

    def stop(self, *, power: bool) -> None:
        """Kill the process, or cut its power."""
        self.world.say(self.id, "loses its power" if power else "is killed")
        self.node = None
        self.disk.crash(self.world.random.randrange(3), power=power)
        self._forget()

    def _forget(self) -> None:
        self.to_apply.clear()
        self.snapshots.clear()
        self.reads.clear()
        self.paused_until_us = 0
        self._applying = False

    def run(self, action: Callable[[Node], None]) -> None:
        """Give the core an input, and do what it then asks for."""
        if self.node is not None:
            action(self.node)
            self.safety.stepped(self.id, self.life, self.replica)
            self._pump()

    def receive(self, message: Message, data: object) -> None:
        """A message has arrived; while paused it waits in a socket."""
        if not self.up:
            return
        if self.world.now_us < self.paused_until_us:
            self._later(
                self.paused_until_us - self.world.now_us, lambda: self.receive(message, data)
            )
            return
        if self.world.traced:
            self.world.say(self.id, "gets", render.message(message))
        if isinstance(message, InstallSnapshot):
            assert isinstance(data, Registers)
            self.snapshots[message.snapshot] = data
        self.run(lambda node: node.step(message))

    def _later(self, delay_us: float, action: Callable[[], None]) -> None:
        """Do it unless the process has died by then; a paused process does it when it goes on."""
        life = self.life

        def act() -> None:
            if self.life != life or self.node is None:
                return
            wait = self.paused_until_us - self.world.now_us
            if wait > 0:
                self.world.after(wait, act)
            else:
                action()

        self.world.after(delay_us, act)

    def _tick(self) -> None:
        self._later(TICK_US * self.speed.clock, self._tick)
        self.run(tick)

    def _pump(self) -> None:
        """Do what the core asks for until it asks for nothing."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.node is not None and self.node.has_ready():
                self._handle(self.node.ready())
        finally:
            self._pumping = False

    def _handle(self, ready: Ready) -> None:
        assert self.node is not None
        r = self.replica
        self.world.note(self.id, ready.number, r.term, r.log.last_index, len(ready.messages))
        if self.world.traced:
            for line in render.ready(ready):
                self.world.say(self.id, line)
        self.safety.writes(self.id, r, ready)
        for message in ready.messages:
            self.network.send(message)
        for order in ready.snapshot_orders:
            self._send_snapshot(order)
        if ready.writes or self.disk.writing:
            snapshot = None if ready.snapshot is None else self.snapshots.pop(ready.snapshot)
            self.disk.submit(ready, snapshot)
            if snapshot is not None and self.when_installing is not None:
                self.world.after(0, self.when_installing)
            if len(self.disk.writing) == 1:
                self._write()
        else:
            self._written(ready)
        if ready.committed:
            self.to_apply.extend(ready.committed)
            self._apply_later()
        for read in ready.reads:
            self.reads.append((read.index, read.context))
        for context in ready.reads_lost:
            self.tell.lost(context)
        for sequence in ready.refused:
            self.tell.refused(self.id, sequence)
        self._serve_reads()

    def _write(self) -> None:
        """One transaction takes all that waits (group commit)."""
        count = len(self.disk.writing)
        self._later(self.world.between(*self.speed.write_us), lambda: self._end_write(count))

    def _end_write(self, count: int) -> None:
        try:
            written = self.disk.finish(count)
        except DiskFull as full:
            # As the node: it stops with one sentence, and nothing of this was promised.
            self.world.say(self.id, "stops:", full)
            self.last_words = str(full)
            self.node = None
            self._forget()
            return
        if any(ready.snapshot is not None for ready in written):
            self.to_apply.clear()
        if self.disk.writing:
            self._write()
        self._written(*written)
        self._serve_reads()

    def _written(self, *readies: Ready) -> None:
        for ready in readies:
            for message in ready.after_persist:
                self.network.send(message)
        self.run(lambda node: node.persisted(readies[-1].number))

    def _apply_later(self) -> None:
        if not self._applying and self.to_apply:
            self._applying = True
            self._later(self.world.between(*self.speed.apply_us), self._apply)

    def _apply(self) -> None:
        self._applying = False
        store = self.disk.store
        for _ in range(min(len(self.to_apply), 1 + self.world.random.randrange(4))):
            entry = self.to_apply.popleft()
            if entry.index <= store.index:
                continue
            self.safety.applies(self.id, entry)
            number = store.apply(entry)
            if number is not None:
                self.tell.applied(self.id, number)
        self._serve_reads()
        index = store.index
        if self.up:
            self.run(lambda node: node.applied(index))
        self._apply_later()

    def _serve_reads(self) -> None:
        if not self.reads:
            return
        ready = [read for read in self.reads if read[0] <= self.disk.store.index]
        self.reads = [read for read in self.reads if read[0] > self.disk.store.index]
        for _, context in ready:
            self.tell.read(self.id, context)

    def _send_snapshot(self, order: SnapshotOrder) -> None:
        """A copy of the store at this moment, on its way for a while."""
        data = self.disk.store.copy()
        meta = SnapshotMeta(data.index, data.term, data.membership)
        message = InstallSnapshot(self.replica.id, order.to, order.term, meta)

        def transfer() -> None:
            arrived = self.network.send(message, data)
            if self.world.chance(0.1):
                arrived = False
            self.run(lambda node: node.report_snapshot(order.to, arrived=arrived))

        self._later(self.world.between(5_000, 100_000), transfer)
