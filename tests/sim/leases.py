"""Clients that hold leases in the simulated cluster, and the promise that none ends too early.

Each has one lease at a time, renews it at any member for a while and then lets it run out. An
answer promises the time to live from the moment the client asked. Members' clocks drift, so that
time counts as the fastest of them runs; before it is over no member may have ended the lease. One
that nobody renews does end. Seconds are those of members' clocks (`process_loop.PACE`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from kvshim.errors import LeaseNotFound, RequestError
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.types import LeaseID
from tests.sim.process_loop import PACE
from tests.sim.server import Server
from tests.sim.world import World

HOLDERS = 6
FIRST_LEASE = 1 << 20
"""The leases of these clients lie above those that others grant and revoke as they like."""

TTL_SECONDS = (6, 24)
LATE = 0.75
"""Of its time, how much a client lets pass at most: the fastest clock needs 0.8 for all of it."""

ABANDONED = 0.1
SECOND_US = 1e6 / PACE
PATIENCE_US = 1_500_000


class EndedEarly(AssertionError):
    """A lease was ended before a time that was promised, or while its client was told it lives."""


@dataclass(slots=True)
class Promises:
    """What clients were told, and what became of it; `fastest` is the quickest clock's second."""

    world: World
    fastest: float
    until_us: dict[int, float] = field(default_factory=dict)
    ended_us: dict[int, int] = field(default_factory=dict)
    kept: int = 0

    def promised(self, lease: int, ttl: int, asked_us: int) -> None:
        """A client asked then, and is told now that its lease lives so long."""
        if lease in self.ended_us:
            at = self.ended_us[lease]
            raise EndedEarly(f"lease {lease} ended at {at}, but what was asked at {asked_us} lives")
        until = asked_us + ttl * SECOND_US * self.fastest
        self.until_us[lease] = max(self.until_us.get(lease, 0.0), until)
        self.kept += 1

    def ended(self, lease: int) -> None:
        """It was revoked because its time was over."""
        now = self.ended_us[lease] = self.world.now_us
        if now < self.until_us.get(lease, 0.0):
            raise EndedEarly(f"lease {lease} ends, promised until {self.until_us[lease]:.0f}")

    def must_be_gone(self, lease: int) -> None:
        """A client is told that its lease is no more."""
        if lease not in self.ended_us:
            raise EndedEarly(f"lease {lease} is said to be gone, and nobody ended it")


@dataclass(slots=True)
class Holder:
    """One client."""

    world: World
    random: Random
    servers: Mapping[int, Server]
    promises: Promises
    numbers: count[int]
    only: Sequence[int] | None = None
    abandoned: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Leases let go: their time to live, and when that was."""
    stopped: bool = False
    _lease: int = 0
    _ttl: int = 0
    _turn: int = 0

    def start(self) -> None:
        """Begin."""
        self._soon(self._grant)

    def _soon(self, action: Callable[[], None], most_us: float = 100_000) -> None:
        self.world.after(self.random.uniform(1_000, most_us), action)

    def _grant(self) -> None:
        if self.stopped:
            return
        self._lease, self._ttl = next(self.numbers), self.random.randint(*TTL_SECONDS)
        lease, ttl = self._lease, self._ttl

        async def grant(server: Server) -> int:
            request = rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl)
            command = Command(lease_grant=request)
            await server.proposer.propose(command, rpc_pb2.LeaseGrantResponse)
            return ttl

        # Not granted in time, or not known to be: nobody renews it, whatever became of it.
        self._ask(grant, otherwise=self._grant)

    def _renew(self) -> None:
        if self.stopped:
            return
        if self.random.random() < ABANDONED:
            self.abandoned[self._lease] = self._ttl, self.world.now_us
            self._soon(self._grant)
            return
        lease = self._lease

        async def renew(server: Server) -> int:
            return await server.lease_calls.keep_alive(LeaseID(lease))

        self._ask(renew, otherwise=self._renew)

    def _ask(
        self, call: Callable[[Server], Awaitable[int]], *, otherwise: Callable[[], None]
    ) -> None:
        """One call at some member; `otherwise` follows an error, and silence."""
        chosen = sorted(self.servers) if self.only is None else self.only
        there = [self.servers[member] for member in chosen if member in self.servers]
        if not there:
            self._soon(otherwise)
            return
        self._turn += 1
        turn, lease, asked_us = self._turn, self._lease, self.world.now_us

        async def work(server: Server) -> None:
            try:
                ttl = await call(server)
            except LeaseNotFound:
                if self._answered(turn):
                    self.promises.must_be_gone(lease)
                    self._soon(self._grant)
            except RequestError:
                if self._answered(turn):
                    self._soon(otherwise)
            else:
                if self._answered(turn):
                    self.promises.promised(lease, ttl, asked_us)
                    share = LATE if self.random.random() < 0.5 else self.random.uniform(0.05, LATE)
                    due_us = asked_us + share * ttl * SECOND_US
                    self.world.after(max(due_us - self.world.now_us, 0), self._renew)

        def give_up() -> None:
            if self._answered(turn):
                self._soon(otherwise)

        server = self.random.choice(there)
        server.spawn(work(server))
        self.world.after(PATIENCE_US, give_up)

    def _answered(self, turn: int) -> bool:
        """Is this the answer that is waited for? Then it is no longer."""
        if turn != self._turn:
            return False
        self._turn += 1
        return True
