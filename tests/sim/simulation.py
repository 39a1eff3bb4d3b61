"""A whole run from one seed: a cluster in trouble, then in peace, and what must be true of it.

Every fourth seed runs with the production log on files (`tests.sim.file_disk`), and every second of
these with all of the production code below the server (`tests.sim.whole_member`).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any

from raft.core import CoreOptions, HardState, MemberId, Membership, Role
from raft.core.messages import Message
from raft.interface import Index, Term
from tests.raft_core.memory_log import MemoryLog
from tests.sim.clients import Clients
from tests.sim.commands import register_put
from tests.sim.disk import Disk, MemoryDisk
from tests.sim.file_disk import FileDisk
from tests.sim.machine import Registers
from tests.sim.member import Member, Outcome, Speed
from tests.sim.network import Network, Weather
from tests.sim.safety import Safety
from tests.sim.threadless import threadless
from tests.sim.trouble import TROUBLED, Mood, Trouble
from tests.sim.whole import Whole
from tests.sim.whole_disk import Files
from tests.sim.whole_member import WholeMember
from tests.sim.world import World

TROUBLE_US = {
    Mood.MIXED: 8_000_000,
    Mood.CHURN: 3_000_000,
    Mood.MOVES: 8_000_000,
    Mood.CALM: 20_000_000,
}
PEACE_US = 6_000_000
REST_US = 500_000
CLIENTS = 5
FILES_EVERY = 4
WHOLE_EVERY = 8
WHOLE_TROUBLE_US = 4_000_000
CALM = 0.25
"""The share of these that lasts long and is quiet."""


class Failure(AssertionError):
    """A run broke a property; the text names the seed, which replays it."""


@dataclass(slots=True)
class Report:
    """What a good run was like."""

    seed: int
    events: int
    committed: int
    leaders: int
    operations: int
    digest: int
    files: bool
    full_stops: int


class Simulation:
    """See the module."""

    def __init__(
        self,
        seed: int,
        *,
        traced: bool = False,
        files: bool | None = None,
        whole: bool | None = None,
    ) -> None:
        self.seed = seed
        if whole is None:
            whole = files is None and seed % WHOLE_EVERY == WHOLE_EVERY - 1
        self.files = seed % FILES_EVERY == FILES_EVERY - 1 if files is None else files or whole
        self.world = World(seed, traced=traced)
        random = self.world.random
        self.members: dict[int, Any] = {}
        self.network = Network(self.world, self._weather(), self._deliver)
        self.safety = Safety(Index(2))
        self.whole = Whole(self.world, self.members, self.network, seed) if whole else None
        self.clients = Clients(self.world, self.members)
        mood = random.choice(TROUBLED)
        if whole and Random(f"{seed} mood").random() < CALM:
            mood = Mood.CALM
        self.trouble = Trouble(self.world, self.network, self.members, mood, self.files)
        if mood is Mood.CHURN:
            self.clients.pause_us = (500, 20_000)
            self.clients.patience_us = 60_000
            self.network.weather.slow = random.choice((0.05, 0.3))
            self.network.weather.slow_us = (2_000, 40_000)
            self.trouble.churn_us = random.choice((5_000, 20_000, 60_000))
        elif mood is Mood.CALM:
            self.clients.pause_us = (50_000, 500_000)
        voters = random.choice((1, 2, 3, 3, 3, 3, 4, 5, 5))
        spares = random.choice((0, 1, 2))
        learners = random.choice((0, spares))
        old = voters + learners
        self.membership = Membership.of(range(1, voters + 1), range(voters + 1, old + 1))
        options = self._options()
        for number in range(1, voters + spares + 1):
            self._add(number, options, newcomer=number > old)
        if self.whole is not None:
            self.clients.command = register_put
            self.safety.on_commit = self.whole.committed
            self.whole.transfer = self.trouble._transfer
            self.trouble.removals = 1

    def run(self) -> Report:
        """Raises `Failure`."""
        try:
            with threadless(self.world) if self.whole is not None else nullcontext():
                return self._run()
        except Exception as error:
            trace = "\n".join(self.world.trace)
            raise Failure(
                f"seed {self.seed} fails after {self.world.steps} events,"
                f" at {self.world.now_us / 1e6:.6f} s: {type(error).__name__}: {error}\n{trace}"
            ) from error
        finally:
            self.close()

    def close(self) -> None:
        """The files of all members are gone; `run` does it, too."""
        for member in self.members.values():
            member.disk.close()

    def _run(self) -> Report:
        for _, member in sorted(self.members.items()):
            member.start()
        self.clients.start(CLIENTS)
        self.trouble.start()
        trouble_us = TROUBLE_US[self.trouble.mood]
        if self.whole is not None:
            self.whole.start()
            if self.trouble.mood is not Mood.CALM:
                trouble_us = WHOLE_TROUBLE_US
        self.world.run_until(trouble_us)
        self.trouble.mend()
        self.clients.pause_us = (5_000, 120_000)
        if self.whole is not None:
            self.world.run_until(trouble_us + PEACE_US - 4_500_000)
            self.whole.keep_leader()
        # Elections, and everything that was under way when the trouble ended, take a moment.
        self.world.run_until(trouble_us + PEACE_US - 3_500_000)
        self._ask_members_only()
        self.world.run_until(trouble_us + PEACE_US - 1_500_000)
        self.clients.stopped = True
        if self.whole is not None:
            self.whole.calm_down(self.clients.only or [])
        self.world.run_until(trouble_us + PEACE_US - REST_US)
        if self.whole is not None:
            self.whole.rest()
        self.world.run_until(trouble_us + PEACE_US)
        self._check_live()
        self._check_equal()
        violation = self.clients.history.violation()
        if violation is not None:
            raise AssertionError(violation)
        return Report(
            self.seed,
            self.world.steps,
            len(self.safety.committed),
            len(self.safety.leaders),
            len(self.clients.history.operations),
            self.world.digest,
            self.files,
            sum(member.disk.full_stops for member in self.members.values()),
        )

    def _ask_members_only(self) -> None:
        """From here on clients get answers: they ask those who belong to the cluster."""
        leader = self.trouble.leader()
        assert leader is not None, "nobody leads, long after all was mended"
        self.clients.only = leader.replica.membership.members
        if self.whole is not None:
            self.whole.ask_only(self.clients.only)
        self.clients.patience_us = 500_000
        self.clients.done.clear()

    def _check_live(self) -> None:
        """Once all is mended, a leader leads and every client gets its answers."""
        leader = self.trouble.leader()
        assert leader is not None, "nobody leads"
        assert leader.replica.log.applied == leader.replica.log.last_index, "entries are stuck"
        for client in range(CLIENTS):
            assert self.clients.done.get(client, 0) > 0, f"client {client} gets no answer"

    def _check_equal(self) -> None:
        """All members hold the same."""
        leader = max(
            (m for m in self.members.values() if m.up and m.replica.role is Role.LEADER),
            key=lambda member: member.replica.term,
        )
        if self.whole is not None:
            self.whole.check(self.safety.committed, leader.replica.membership.members)
            return
        for number in leader.replica.membership.members:
            member = self.members[number]
            assert member.disk.store == leader.disk.store, f"{number} differs from {leader.id}"

    def _deliver(self, message: Message, data: object) -> None:
        self.members[message.to].receive(message, data)

    def _weather(self) -> Weather:
        random = self.world.random
        return Weather(
            loss=random.choice((0.0, 0.01, 0.1)),
            repeat=random.choice((0.0, 0.02, 0.1)),
            slow=random.choice((0.0, 0.02, 0.1)),
        )

    def _options(self) -> CoreOptions:
        random = self.world.random
        return CoreOptions(
            MemberId(1),
            election_ticks=5,
            append_bytes_max=random.choice((1, 1, 60, 1 << 20)),
            inflight_messages_max=random.choice((1, 4, 256)),
            uncommitted_bytes_max=random.choice((50, 1 << 20)),
            apply_bytes_max=random.choice((1, 1 << 20)),
            cache_bytes_max=random.choice((0, 200, 1 << 20)),
            promotion_lag_entries_max=random.choice((0, 5, 1000)),
        )

    def _add(self, number: int, options: CoreOptions, *, newcomer: bool) -> None:
        random = self.world.random
        if newcomer:
            store = Registers(Index(0), Term(0), Membership())
        else:
            store = Registers(Index(1), Term(1), self.membership)
        slow = random.choice((1, 1, 1, 20))
        speed = Speed((200 * slow, 4_000 * slow), (10, 2_000 * slow), random.uniform(0.8, 1.25))
        clients = self.clients
        tell = Outcome(clients.applied, clients.read, clients.lost, clients.refused)
        own_options = options_for(options, number)
        if self.whole is not None:
            chance = Random(f"{self.seed} member {number}")
            self.members[number] = WholeMember(
                self.world,
                self.network,
                self.safety,
                own_options,
                Files(number, chance, None if newcomer else self.membership),
                speed,
                tell,
                chance,
                on_start=self.whole.on_start,
            )
            return
        disk: Disk
        if self.files:
            disk = FileDisk(number, Random(f"{self.seed} disk {number}"), store)
        elif newcomer:
            disk = MemoryDisk(MemoryLog(), HardState(), store)
        else:
            hard = HardState(Term(1), MemberId(0), Index(1))
            disk = MemoryDisk(MemoryLog(1, 1), hard, store)
        self.members[number] = Member(
            self.world, self.network, self.safety, own_options, disk, speed, tell
        )


def options_for(options: CoreOptions, number: int) -> CoreOptions:
    """The same options for another member."""
    values = {name: getattr(options, name) for name in CoreOptions.__dataclass_fields__}
    return CoreOptions(**(values | {"member_id": MemberId(number)}))


def simulate(seed: int) -> Report:
    """Run a seed. A failing one is run again, with every message and write in its trace."""
    try:
        return Simulation(seed).run()
    except Failure:
        Simulation(seed, traced=True).run()
        raise
