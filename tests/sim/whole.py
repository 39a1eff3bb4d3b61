"""What a run on the production code has beside the clients of its registers, and what must be true.

More commands, watchers and leases while it runs, and a change of leaders now and then, also in
peace. At the end every store is what the log says, every watcher saw just that, and leases that
nobody renewed are gone; that none ended early is seen when it happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from kvshim.apply.outcome import BatchOutcome
from kvshim.apply.outcome import Outcome as ApplyOutcome
from kvshim.errors import RequestError
from raft.core import Entry
from tests.sim.commands import Others
from tests.sim.leases import FIRST_LEASE, HOLDERS, TTL_SECONDS, Holder, Promises
from tests.sim.network import Network
from tests.sim.server import Server
from tests.sim.truth import Truth
from tests.sim.watchers import RANGES, WATCHERS, Watcher
from tests.sim.whole_member import WholeMember
from tests.sim.world import World

TRANSFER_US = (1_000_000, 4_000_000)


@dataclass(slots=True)
class Whole:
    """See the module."""

    world: World
    members: dict[int, WholeMember]
    network: Network
    seed: int
    transfer: Callable[[], None] = lambda: None
    leaders_change: bool = True
    settled_us: int = 0
    truth: Truth = field(default_factory=Truth)
    servers: dict[int, Server] = field(default_factory=dict)
    others: Others = field(init=False)
    watchers: list[Watcher] = field(init=False)
    holders: list[Holder] = field(init=False)
    promises: Promises = field(init=False)

    def __post_init__(self) -> None:
        self.others = Others(self.world, self.members)
        self.watchers = [
            Watcher(number, self.world, self._chance("watcher", number), self.servers, keys)
            for number in range(WATCHERS)
            for keys in (RANGES[number % len(RANGES)],)
        ]
        self.promises = Promises(self.world, 1.0)
        numbers = count(FIRST_LEASE)
        self.holders = [
            Holder(self.world, self._chance("holder", one), self.servers, self.promises, numbers)
            for one in range(HOLDERS)
        ]

    def _chance(self, *words: object) -> Random:
        return Random(f"{self.seed} {words}")

    def start(self) -> None:
        """Begin."""
        self.promises.fastest = min(member.speed.clock for member in self.members.values())
        self.others.start()
        for client in (*self.watchers, *self.holders):
            client.start()
        self._transfer_later()

    def keep_leader(self) -> None:
        """Whoever leads goes on."""
        self.leaders_change = False

    def _transfer_later(self) -> None:
        self.world.after(self.world.between(*TRANSFER_US), self._transfer)

    def _transfer(self) -> None:
        if self.leaders_change:
            self.transfer()
            self._transfer_later()

    def ask_only(self, members: Sequence[int]) -> None:
        """From here on these belong to the cluster, and one of them leads."""
        self.settled_us = self.world.now_us
        for holder in self.holders:
            holder.only = members

    def calm_down(self, members: Sequence[int]) -> None:
        """Nothing new from here on."""
        self.others.stopped = True
        for watcher in self.watchers:
            watcher.settle(members)
        for holder in self.holders:
            holder.stopped = True

    def rest(self) -> None:
        """Nor does any lease end."""
        for server in self.servers.values():
            server.rest()

    def on_start(self, member: WholeMember) -> None:
        """A process begins."""
        server = self.servers[member.id] = Server(member, self._ask)

        def outcome(told: ApplyOutcome) -> None:
            if isinstance(told, BatchOutcome):
                for number, _ in told.answers:
                    member.tell.applied(member.id, number)
            server.delivery.post(told)

        def stop() -> None:
            if self.servers.get(member.id) is server:
                del self.servers[member.id]
            for watcher in self.watchers:
                watcher.server_ended(server)
            server.loop.end()

        member.on_outcome = outcome
        member.on_looked = server.looked
        member.on_reads = server.log.found
        member.on_reads_lost = server.log.lost
        member.on_stop = stop

    def committed(self, entry: Entry) -> None:
        """The log goes on, before anybody applies it."""
        before = set(self.truth.leases)
        self.truth.tell(entry)
        for lease in before - set(self.truth.leases):
            if lease >= FIRST_LEASE:
                self.promises.ended(lease)

    def check(self, committed: Sequence[Entry], members: Sequence[int]) -> None:
        """All of these hold what the log says, and clients saw nothing else."""
        truth = Truth.of(committed)
        for number in members:
            difference = truth.differs(self.members[number].store)
            assert difference is None, f"{number} differs from the log: {difference}"
        for watcher in self.watchers:
            difference = watcher.differs(truth)
            assert difference is None, f"watcher {watcher.number}: {difference}"
        for holder in self.holders:
            for lease, (ttl, since_us) in holder.abandoned.items():
                over = ttl == TTL_SECONDS[0] and since_us < self.settled_us
                assert not over or lease in self.promises.ended_us, f"lease {lease} never ends"

    def _ask(self, server: Server, to: int, payload: bytes) -> asyncio.Future[bytes]:
        """A call to another member and its answer, each of which may be lost on its way."""
        answer: asyncio.Future[bytes] = server.loop.create_future()

        def settle(reply: bytes | RequestError) -> None:
            if not server.loop.runs or answer.done():
                return
            if isinstance(reply, RequestError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

        def arrive() -> None:
            there = self.servers.get(to)
            if there is None:
                return

            async def work() -> None:
                reply: bytes | RequestError
                try:
                    reply = await there.lease_calls.handle_keepalive(payload)
                except RequestError as error:
                    reply = error
                self.network.carry(to, server.id, lambda: settle(reply))

            there.spawn(work())

        self.network.carry(server.id, to, arrive)
        return answer
