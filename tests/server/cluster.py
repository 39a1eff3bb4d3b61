"""A log that can lose its leader, and what stands around it: for tests of one member's rooms."""

from __future__ import annotations

import asyncio

from kvshim.server.leadership import Leadership
from raft import interface as raft

ME, OTHER = 1, 2
ELECTION_SECONDS = 0.5


class Log:
    """Takes proposals and answers reads while there is a leader, and counts both."""

    def __init__(self, voters: tuple[int, ...] = (1, 2, 3)) -> None:
        self.voters = voters
        self.leader_id = 0
        self.term = 0
        self.commit_index = 5
        self.taken: list[bytes] = []
        self.refusal: raft.ProposalDropped | None = None
        self.questions = 0
        self.answers_held: asyncio.Event | None = None
        self.leadership = Leadership(ME, ELECTION_SECONDS)

    def lead(self, leader_id: int) -> None:
        """Somebody leads from now on, or nobody (0); the member sees it at once."""
        self.leader_id = leader_id
        self.term += leader_id != 0
        self.leadership.observe(leader_id, self.term)

    def propose(self, command: bytes) -> None:
        if self.leader_id == 0:
            raise raft.NoLeader
        if self.refusal is not None:
            raise self.refusal
        self.taken.append(command)

    async def read_index(self) -> raft.Index:
        self.questions += 1
        asked_of, index = (self.leader_id, self.term), self.commit_index
        if self.leader_id == 0:
            raise raft.NoLeader
        if self.answers_held is not None:
            await self.answers_held.wait()
        if asked_of != (self.leader_id, self.term):
            raise raft.NoLeader
        return raft.Index(index)

    def status(self) -> raft.LogStatus:
        zero = raft.Index(0)
        return raft.LogStatus(
            ME,
            self.leader_id,
            raft.Term(self.term),
            zero,
            zero,
            raft.Index(self.commit_index),
            raft.Membership.of(self.voters),
        )


class Store:
    """Knows only how far it has applied."""

    applied_index = 5


async def settle(turns: int = 10) -> None:
    """Let everything that can go on go on."""
    for _ in range(turns):
        await asyncio.sleep(0)
