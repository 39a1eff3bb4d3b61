"""Clients of the simulated cluster: each does one thing at a time, at any member, and notes it.

A client gives up after a while; what it asked may still happen. It never asks the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raft.core import Proposal, TooManyReads
from raft.interface import ProposalDropped
from tests.sim.history import History, Operation
from tests.sim.machine import put
from tests.sim.member import Member
from tests.sim.world import World

KEYS = ("x", "y")


@dataclass(slots=True)
class Clients:
    """All clients; `waiting` maps a command's or read's number to (member, life, operation)."""

    world: World
    members: dict[int, Any]
    command: Callable[[int, str, int], bytes] = put
    history: History = field(default_factory=History)
    waiting: dict[int, tuple[int, int, int, Operation]] = field(default_factory=dict)
    forwards: dict[tuple[int, int, int], int] = field(default_factory=dict)
    only: list[int] | None = None
    """Whom to ask; everybody, if None."""
    number: int = 0
    stopped: bool = False
    pause_us: tuple[float, float] = (2_000, 80_000)
    patience_us: float = 300_000
    done: dict[int, int] = field(default_factory=dict)

    def start(self, count: int) -> None:
        """Let so many clients begin."""
        for client in range(count):
            self._next(client)

    def applied(self, member: int, number: int) -> None:
        """A member has applied a command; only the one that was asked answers."""
        self._answer(member, number, None)

    def read(self, member: int, context: int) -> None:
        """A member may serve a read: it does so at once."""
        waiting = self.waiting.get(context)
        if waiting is not None:
            self._answer(member, context, self.members[member].value(waiting[3].key))

    def lost(self, context: int) -> None:
        """A read was not confirmed."""
        self._fail(context)

    def refused(self, member: int, sequence: int) -> None:
        """The leader did not take a forward."""
        number = self.forwards.get((member, self.members[member].life, sequence))
        if number is not None:
            self._fail(number)

    def _next(self, client: int) -> None:
        if not self.stopped:
            self.world.after(self.world.between(*self.pause_us), lambda: self._ask(client))

    def _ask(self, client: int) -> None:
        chosen = self.only if self.only is not None else sorted(self.members)
        up = [self.members[number] for number in chosen if self.members[number].up]
        random = self.world.random
        if self.stopped or not up:
            self._next(client)
            return
        member, key = random.choice(up), random.choice(KEYS)
        self.number += 1
        number, is_put = self.number, random.random() < 0.5
        operation = self.history.begin(
            client, key, number if is_put else 0, self.world.now_us, is_put=is_put
        )
        self.waiting[number] = (member.id, member.life, client, operation)
        self.world.after(self.patience_us, lambda: self._give_up(number))
        if is_put:
            self._put(member, number, key)
        else:
            self._get(member, number)

    def _put(self, member: Member, number: int, key: str) -> None:
        def propose(node):
            try:
                sequence = node.propose([Proposal(self.command(number, key, number))])
            except ProposalDropped:
                self._fail(number)
                return
            if sequence:
                self.forwards[member.id, member.life, sequence] = number

        member.run(propose)

    def _get(self, member: Member, number: int) -> None:
        def read(node):
            try:
                node.read_index(number)
            except (ProposalDropped, TooManyReads):
                self._fail(number)

        member.run(read)

    def _answer(self, member: int, number: int, value: int | None) -> None:
        waiting = self.waiting.get(number)
        if waiting is None or waiting[0] != member or waiting[1] != self.members[member].life:
            return
        _, _, client, operation = self.waiting.pop(number)
        if value is not None:
            operation.value = value
        operation.end_us = self.world.now_us
        self.done[client] = self.done.get(client, 0) + 1
        self.world.note(number, operation.value)
        self._next(client)

    def _fail(self, number: int) -> None:
        waiting = self.waiting.pop(number, None)
        if waiting is not None:
            waiting[3].failed = True
            self._next(waiting[2])

    def _give_up(self, number: int) -> None:
        waiting = self.waiting.pop(number, None)
        if waiting is not None:
            self._next(waiting[2])
