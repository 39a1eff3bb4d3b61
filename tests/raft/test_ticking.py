"""Time becomes ticks only when one of them does something, and a member held up blames nobody."""

from __future__ import annotations

from random import Random

import pytest

from raft.core import (
    ChangeKind,
    ConfChange,
    CoreOptions,
    HardState,
    MemberId,
    Membership,
    Node,
    Role,
    StartState,
)
from raft.core.messages import (
    Heartbeat,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)
from raft.interface import Index, Term
from raft.ticking import TICKS_MISSED_MAX, Ticking
from tests.raft_core.memory_log import MemoryLog

TICK = 0.05
ME, LEADER, OTHER = MemberId(1), MemberId(2), MemberId(3)
ELECTION_TICKS = 10


class Following:
    """A follower of three whose clock stands until it is moved."""

    def __init__(self, seed: int) -> None:
        options = CoreOptions(ME, election_ticks=ELECTION_TICKS, heartbeat_ticks=2)
        membership = Membership(frozenset({ME, LEADER, OTHER}))
        start = StartState(HardState(Term(1), MemberId(0), Index(0)), membership, Index(0))
        self.now = 100.0
        self.core = Node(options, MemoryLog(), start, Random(seed))
        self.ticking = Ticking(self.core, TICK, self.now)
        self.hear()

    def hear(self) -> None:
        """The leader speaks; as the node takes a message."""
        self.ticking.settle(self.now)
        self.core.step(Heartbeat(LEADER, ME, Term(1), Index(0), 0))
        self.ticking.look()

    def pass_to(self, now: float) -> None:
        self.now = now
        self.ticking.pass_to(now)

    def sleep(self) -> None:
        """Until there is something to do, and a moment, as every timer is late."""
        self.pass_to(self.ticking.due_at + TICK / 50)

    @property
    def follows(self) -> bool:
        return self.core.status().role is Role.FOLLOWER


@pytest.mark.parametrize("seed", range(20))
def test_silence_is_noticed_after_one_to_two_timeouts_in_few_steps(seed: int):
    member = Following(seed)
    heard, steps = member.now, 0
    while member.follows:
        member.sleep()
        steps += 1
    silence = (member.now - heard) / TICK
    assert ELECTION_TICKS <= silence <= 2 * ELECTION_TICKS
    assert steps == 2, "once before the election, to listen, and once for it"


@pytest.mark.parametrize("seed", range(20))
def test_whoever_hears_the_leader_calls_no_election_however_seldom_it_looks(seed: int):
    member = Following(seed)
    for _ in range(200):
        member.now += 2.1 * TICK
        member.hear()
        if member.now >= member.ticking.due_at:
            member.sleep()
        assert member.follows


@pytest.mark.parametrize("seed", range(20))
def test_a_message_that_comes_when_an_election_is_due_is_taken_first(seed: int):
    member = Following(seed)
    member.sleep()
    assert member.core.ticks_until_due() == 1
    member.now += 1.5 * TICK
    member.hear()
    asked = [m for m in member.core.ready().messages if isinstance(m, PreVoteRequest)]
    assert not asked


@pytest.mark.parametrize("seed", range(20))
def test_a_member_that_was_held_up_listens_before_it_calls_an_election(seed: int):
    # given one that did not run for long, whatever it was about to do
    member = Following(seed)
    member.pass_to(member.now + 60)
    # then it has counted next to nothing of that, and goes on listening
    assert member.follows
    assert member.core.ticks_until_due() >= ELECTION_TICKS - TICKS_MISSED_MAX
    member.now += TICK
    member.hear()
    assert member.follows


def test_a_leader_at_rest_has_something_to_do_at_each_heartbeat_and_misses_none_under_load():
    member = Following(1)
    while member.core.status().role is not Role.LEADER:
        member.sleep()
        _win(member)
    began, beats = member.now, 0
    for _ in range(100):
        member.sleep()
        beats += _heartbeats(member)
    assert beats == pytest.approx((member.now - began) / (2 * TICK), abs=1)

    # when messages come all the time, which count but do nothing that is due
    began, beats = member.now, 0
    for _ in range(1_000):
        member.now += 0.3 * TICK
        member.ticking.settle(member.now)
        member.ticking.look()
        if member.now >= member.ticking.due_at:
            member.pass_to(member.now)
        beats += _heartbeats(member)
    assert beats == pytest.approx((member.now - began) / (2 * TICK), rel=0.1)


def test_a_leader_alone_rests_and_a_follower_that_comes_hears_of_it_at_once():
    # given a cluster of one, whose member leads
    log, now = MemoryLog(), 100.0
    start = StartState(
        HardState(Term(1), MemberId(0), Index(0)), Membership(frozenset({ME})), Index(0)
    )
    options = CoreOptions(ME, election_ticks=ELECTION_TICKS, heartbeat_ticks=2)
    core = Node(options, log, start, Random(1))
    ticking = Ticking(core, TICK, now)
    while core.status().role is not Role.LEADER or core.has_ready():
        now = ticking.due_at + TICK / 50
        ticking.pass_to(now)
        _work(core, log)
    # then time has nothing for it to do
    ticking.look()
    assert ticking.due_at > now + 4 * ELECTION_TICKS * TICK
    # until it has a follower, however long that takes
    now += 3 * ELECTION_TICKS * TICK
    ticking.settle(now)
    core.propose_change(ConfChange(ChangeKind.ADD_LEARNER, OTHER))
    _work(core, log)
    ticking.look()
    assert ticking.due_at <= now + 2 * TICK
    sent = 0
    for _ in range(100):
        now = max(now, ticking.due_at + TICK / 50)
        ticking.pass_to(now)
        sent += sum(isinstance(message, Heartbeat) for message in _work(core, log))
    assert sent >= 99


def _work(core: Node, log: MemoryLog) -> list[Message]:
    """All that is ready, on a disk and a state machine that are quick; what is sent."""
    sent: list[Message] = []
    while core.has_ready():
        ready = core.ready()
        if ready.entries:
            log.write(ready.entries)
        sent += ready.messages
        core.persisted(ready.number)
        if ready.committed:
            core.applied(ready.committed[-1].index)
    return sent


def _heartbeats(member: Following) -> int:
    """How many rounds of them leave now. The others answer, or it would lead no more."""
    sent = 0
    while member.core.has_ready():
        ready = member.core.ready()
        sent += sum(isinstance(message, Heartbeat) for message in ready.messages)
        member.core.persisted(ready.number)
    for sender in (LEADER, OTHER) if sent else ():
        term = member.core.status().term
        member.core.step(HeartbeatResponse(sender, ME, term, 0))
    return sent // 2


def _win(member: Following) -> None:
    """Everybody grants what it asks for."""
    core = member.core
    while core.has_ready():
        ready = core.ready()
        core.persisted(ready.number)
        for message in (*ready.messages, *ready.after_persist):
            if isinstance(message, PreVoteRequest):
                core.step(PreVoteResponse(message.to, ME, message.term, granted=True))
            elif isinstance(message, VoteRequest):
                core.step(VoteResponse(message.to, ME, message.term, granted=True))
    member.ticking.look()
