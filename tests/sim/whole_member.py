"""One simulated process that runs the production code from the core down to the disk.

`raft.member.Member` drives core, log and `ApplyMachine` in its own order; the store, its snapshots
and generations are the real ones. The simulation stands in for what has threads: the queue of the
raft thread, the apply thread, the checkpointer, the transport. Inputs wait while the member writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kvshim.apply.machine import ApplyMachine
from kvshim.apply.members import removed_of
from kvshim.apply.outcome import Outcome as ApplyOutcome
from kvshim.errors import StorageError
from kvshim.mvcc.store import Store
from kvshim.pb.kvshim.command_pb2 import Command
from raft.core import CoreOptions, Entry, Node, ReadState, SnapshotOrder
from raft.core.messages import InstallSnapshot, Message
from raft.core.ready import Ready
from raft.core.replica import Replica
from raft.interface import LogError, LogStatus, MemberId
from raft.member import Member as LogMember
from raft.member import RetentionOptions
from tests.powercut.names import write_file
from tests.raft_core import render
from tests.sim.member import TICK_US, Outcome, Speed, tick
from tests.sim.network import Network
from tests.sim.safety import Safety
from tests.sim.whole_disk import Files
from tests.sim.world import World

CHECKPOINT_US = (100_000, 900_000)


class _SeenMember(LogMember):
    """Shows what it is about to do."""

    before: Callable[[Ready], None]

    def do(self, ready: Ready) -> None:
        self.before(ready)
        super().do(ready)


class _SeenMachine(ApplyMachine):
    """Shows what it is about to apply."""

    before: Callable[[Sequence[Entry]], None]

    def _apply_batch(
        self, entries: Sequence[Entry], short: Sequence[Command | None] | None
    ) -> None:
        self.before(entries)
        super()._apply_batch(entries, short)


@dataclass(slots=True)
class _Disk:
    """What `tests.sim.trouble` does to a disk."""

    member: WholeMember
    full_stops: int = 0

    def make_checkpoint(self) -> None:
        self.member.checkpoint()

    def cut_log(self, keep: int) -> None:
        self.member.keep_log(keep)

    def fill(self) -> None:
        self.member.files.platter.room = self.member.random.randrange(60_000)

    def make_room(self) -> None:
        self.member.files.platter.room = None

    def close(self) -> None:
        self.member.close()


@dataclass(slots=True)
class WholeMember:
    """A process that may be up or down; `life` counts its starts."""

    world: World
    network: Network
    safety: Safety
    options: CoreOptions
    files: Files
    speed: Speed
    tell: Outcome
    random: Random
    life: int = 0
    paused_until_us: int = 0
    keep: int = 3
    last_words: str = ""
    when_installing: Callable[[], None] | None = None
    """Happens while the next snapshot is being installed."""
    on_start: Callable[[WholeMember], None] = lambda _: None
    on_outcome: Callable[[ApplyOutcome], None] = lambda _: None
    on_looked: Callable[[Ready], None] = lambda _: None
    on_reads: Callable[[Sequence[ReadState]], None] = lambda _: None
    on_reads_lost: Callable[[Sequence[int]], None] = lambda _: None
    on_stop: Callable[[], None] = lambda: None
    installed: int = 0
    reads: list[tuple[int, int]] = field(default_factory=list)
    disk: Any = None
    _member: _SeenMember | None = None
    _machine: _SeenMachine | None = None
    _inbox: list[Callable[[Node], None]] = field(default_factory=list)
    _turning: bool = False
    _applying: bool = False
    _copies: int = 0

    def __post_init__(self) -> None:
        self.disk = _Disk(self)

    @property
    def id(self) -> int:
        return self.options.member_id

    @property
    def up(self) -> bool:
        return self._member is not None

    @property
    def replica(self) -> Replica:
        """Only for observers."""
        assert self._member is not None
        return self._member.core._replica

    def log_status(self, leader: MemberId) -> LogStatus:
        """What the core tells users of the log."""
        assert self._member is not None
        return self._member.core.log_status(leader)

    @property
    def store(self) -> Store:
        """Of a member that is up."""
        return self.files.storage.store

    def start(self) -> None:
        """Start from what the disk holds."""
        with self._living():
            try:
                self.files.open()
            except (LogError, StorageError):
                if self.files.platter.room is None:
                    raise
                self.disk.make_room()  # it does not start on a full disk: somebody makes room
                self.files.die()
                self.files.open()
            self._start()

    def _start(self) -> None:
        storage = self.files.storage
        self.life += 1
        self.world.say(self.id, "starts at", storage.store.applied_index)
        machine = self._machine = _SeenMachine(
            storage.store, self._deliver, _fail, lambda _: None, storage.generations
        )
        machine.before = self._applies
        chance = Random(self.random.getrandbits(64))
        self._member = _SeenMember(storage.log, machine, self, self.options, random=chance)
        self.keep_log(self.keep)
        self._member.before = self._does
        self.on_start(self)
        self.later(self.random.uniform(0, TICK_US), self._tick)
        self.later(self.random.uniform(*CHECKPOINT_US), self._checkpoint_now_and_then)
        self._member.begin()
        self.safety.stepped(self.id, self.life, self.replica)
        self._apply_later()

    def stop(self, *, power: bool) -> None:
        """Kill the process, or cut its power, during what it does next or between two steps."""
        self.world.say(self.id, "loses its power" if power else "is killed")
        with self._living():
            self.files.doom(power=power)
            if self.random.random() < 0.5:
                self._take_inbox()
            if self.random.random() < 0.5:
                self._turn_apply()
            if self.random.random() < 0.2:
                self.store.backend.checkpointer.run_once()
            self.files.platter.is_off = True

    def close(self) -> None:
        """The run is over."""
        if self._member is not None:
            self.on_stop()
        self._member = self._machine = None
        self.files.close()

    def run(self, action: Callable[[Node], None]) -> None:
        """Give the core an input: it waits for the write under way, if there is one."""
        if self._member is None:
            return
        self._inbox.append(action)
        if not self._turning:
            self._turning = True
            self.later(self.random.uniform(*self.speed.write_us), self._turn)

    def receive(self, message: Message, data: object) -> None:
        """A message has arrived; while paused it waits in a socket."""
        if not self.up:
            return
        if self.world.now_us < self.paused_until_us:
            self.later(0, lambda: self.receive(message, data))
            return
        if self.world.traced:
            self.world.say(self.id, "gets", render.message(message))
        if isinstance(message, InstallSnapshot):
            assert isinstance(data, bytes)
            self._accept(message, data)
        else:
            self.run(lambda node: node.step(message))

    def value(self, key: str) -> int:
        """What a client reads."""
        with self.store.read() as view:
            found = view.get(key.encode())
        return 0 if found is None else int(found.value)

    def removed(self) -> frozenset[int]:
        """Who was a member and is none for ever."""
        with self.store.read() as view:
            return removed_of(view)

    def keep_log(self, entries: int) -> None:
        """So many stay in the log behind what is durable in the store."""
        self.keep = entries
        if self._member is not None:
            self._member._retention = RetentionOptions(entries, 1 << 30, slice_entries_max=4)

    def checkpoint(self) -> None:
        """Copy the store's WAL, and the log's."""
        with self._living():
            self.store.backend.checkpointer.run_once()
            if self.random.random() < 0.3:
                self.files.storage.log.checkpoint()

    def later(self, delay_us: float, action: Callable[[], None]) -> None:
        """Do it unless the process has died by then; a paused process does it when it goes on."""
        life = self.life

        def act() -> None:
            if self.life != life or self._member is None:
                return
            wait = self.paused_until_us - self.world.now_us
            if wait > 0:
                self.world.after(wait, act)
                return
            with self._living():
                action()

        self.world.after(delay_us, act)

    # -- what runs within the process

    def _tick(self) -> None:
        self.later(TICK_US * self.speed.clock, self._tick)
        self.run(tick)

    def _turn(self) -> None:
        self._turning = False
        self._take_inbox()

    def _take_inbox(self) -> None:
        """As the raft thread: everything that waits, then what the core asks for."""
        member = self._member
        assert member is not None
        inbox, self._inbox = self._inbox, []
        for action in inbox:
            action(member.core)
            self.safety.stepped(self.id, self.life, self.replica)
        member.work()
        self.safety.stepped(self.id, self.life, self.replica)
        self._apply_later()
        self._serve_reads()

    def _does(self, ready: Ready) -> None:
        r = self.replica
        self.world.note(self.id, ready.number, r.term, r.log.last_index, len(ready.messages))
        if self.world.traced:
            for line in render.ready(ready):
                self.world.say(self.id, line)
        self.safety.writes(self.id, r, ready)
        if ready.snapshot is not None:
            self.installed += 1
            if self.when_installing is not None:
                self.world.after(0, self.when_installing)

    def _applies(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.safety.applies(self.id, entry)

    def _apply_later(self) -> None:
        machine = self._machine
        assert machine is not None
        if not self._applying and (machine._queue or machine._installation is not None):
            self._applying = True
            self.later(self.random.uniform(*self.speed.apply_us), self._end_apply)

    def _end_apply(self) -> None:
        self._applying = False
        self._turn_apply()
        self._apply_later()

    def _turn_apply(self) -> None:
        """As the apply thread: one batch, or a snapshot; then the raft thread is told."""
        machine = self._machine
        assert machine is not None
        machine.turn(1 + self.random.randrange(6))
        index = machine.applied_index()
        self._serve_reads()
        self.run(lambda node: node.applied(index))

    def _deliver(self, outcome: ApplyOutcome) -> None:
        self.on_outcome(outcome)

    def _serve_reads(self) -> None:
        index = self.store.applied_index
        ready = [read for read in self.reads if read[0] <= index]
        self.reads = [read for read in self.reads if read[0] > index]
        for _, context in ready:
            self.tell.read(self.id, context)

    def _checkpoint_now_and_then(self) -> None:
        self.later(self.random.uniform(*CHECKPOINT_US), self._checkpoint_now_and_then)
        self.store.backend.checkpointer.run_once()

    # -- snapshots, as `raft.snapshots` does them

    def _accept(self, message: InstallSnapshot, data: bytes) -> None:
        def keep() -> None:
            machine, member = self._machine, self._member
            assert machine is not None
            assert member is not None
            path = self.files.home / f"snapshot-{message.sender}.tmp"
            path.unlink(missing_ok=True)
            write_file(path, data)
            generation = machine.accept(path, message.snapshot)

            def step(node: Node) -> None:
                member.accept(message.snapshot, generation)
                node.step(message)

            self.run(step)

        with self._living():
            keep()

    # -- Surroundings: what the member calls

    def send(self, messages: Sequence[Message]) -> None:
        """Messages leave."""
        for message in messages:
            self.network.send(message)

    def send_snapshot(self, order: SnapshotOrder) -> None:
        """Copy the store when it has what it must hold; it is on its way for a while."""
        self.later(self.random.uniform(1_000, 20_000), lambda: self._copy(order))

    def _copy(self, order: SnapshotOrder) -> None:
        machine = self._machine
        assert machine is not None
        if machine.applied_index() < order.index:
            self.later(20_000, lambda: self._copy(order))
            return
        self._copies += 1
        path = self.files.home / f"snapshot-to-{order.to}.tmp"
        path.unlink(missing_ok=True)
        meta = machine.copy(path)
        data = path.read_bytes()
        path.unlink()
        message = InstallSnapshot(MemberId(self.id), order.to, order.term, meta)

        def transfer() -> None:
            arrived = self.network.send(message, data) and self.random.random() > 0.1
            self.run(lambda node: self._report(node, order, arrived=arrived))

        self.later(self.random.uniform(5_000, 100_000), transfer)

    def _report(self, node: Node, order: SnapshotOrder, *, arrived: bool) -> None:
        assert self._member is not None
        (self._member.follow_log if arrived else self._member.release_log)(order.to)
        node.report_snapshot(order.to, arrived=arrived)

    def reads_ready(self, reads: Sequence[ReadState]) -> None:
        """These reads have an index."""
        self.on_reads(reads)
        self.reads += [(read.index, read.context) for read in reads]

    def reads_lost(self, contexts: Sequence[int]) -> None:
        """These were not confirmed."""
        self.on_reads_lost(contexts)
        for context in contexts:
            self.tell.lost(context)

    def forwards_refused(self, sequences: Sequence[int]) -> None:
        """The leader did not take these forwards."""
        for sequence in sequences:
            self.tell.refused(self.id, sequence)

    def looked(self, ready: Ready) -> None:
        """The write of `ready` is done."""
        self.on_looked(ready)

    # -- the end of a process

    @contextmanager
    def _living(self) -> Iterator[None]:
        """Whatever happens in here may be the process's end."""
        try:
            yield
        except (LogError, StorageError) as error:
            if not self.files.is_dead and self.files.platter.room is None:
                raise
            if not self.files.is_dead:
                # As the node: it stops with one sentence, and nothing of this was promised.
                self.world.say(self.id, "stops:", error)
                self.last_words = str(error)
                self.disk.full_stops += 1
                self._end()
                return
        except Exception:
            if not self.files.is_dead:
                raise
        if self.files.is_dead:
            self._end()

    def _end(self) -> None:
        self._member = self._machine = None
        self.on_stop()
        self.files.die()
        self._inbox.clear()
        self.reads.clear()
        self.paused_until_us = 0
        self._turning = self._applying = False


def _fail(error: BaseException) -> None:
    raise error
