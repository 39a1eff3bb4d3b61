"""Linearizable reads without a log entry (paper 8, thesis 6.4), in batches.

A read may be served from a store that has applied index i, if i was the leader's commit index
after the read was asked, and the leader was still the leader then:

1. a leader waits until an entry of its own term is committed: before, its commit index may be old;
2. all reads that came since the last Ready share one numbered round of heartbeats, with the commit
   index of this moment;
3. when a majority of voters, the leader included, has answered this round or a later one, every
   read of the round and of earlier ones may be served.

Where the leader and one more voter are a majority, a voter's question is that voter's answer: it
had given no vote in a later term when its reads came, and neither had the leader when it got the
question. So a follower's reads cost one message each way, and no round.

A follower asks its leader in batches too, by (session, sequence): an answer confirms everything
asked up to that sequence, since a later index serves an earlier read as well. So asking again is
harmless, and a leader remembers one number for each member.
"""

from __future__ import annotations

from raft.core.messages import (
    HeartbeatResponse,
    ReadIndexRequest,
    ReadIndexResponse,
)
from raft.core.replica import Replica, Round
from raft.core.replication import send_heartbeats
from raft.core.types import NOBODY, MemberId, ReadState, Role, TooManyReads
from raft.interface import Index, NoLeader


def ask(r: Replica, context: int) -> None:
    """Take a read; its ReadState comes, or its context among `reads_lost`."""
    if r.leader == NOBODY:
        raise NoLeader("no leader is known")
    if r.reads.count >= r.options.reads_max:
        raise TooManyReads("too many reads wait for their index")
    r.reads.incoming.append(context)
    r.reads.count += 1


def flush(r: Replica) -> None:
    """Begin a round, or ask the leader, for all that came since the last time."""
    reads = r.reads
    if r.role is Role.LEADER:
        if (reads.incoming or reads.remote) and may_answer(r):
            _begin_round(r)
    elif reads.incoming:
        contexts, reads.incoming = reads.incoming, []
        if r.leader == NOBODY:
            r.out.reads_lost.extend(contexts)
            reads.count -= len(contexts)
            return
        reads.sequence += 1
        reads.asked.append((reads.sequence, contexts))
        _request(r)


def wants_flush(r: Replica) -> bool:
    """Would `flush` do anything?"""
    reads = r.reads
    if r.role is Role.LEADER:
        return bool(reads.incoming or reads.remote) and may_answer(r)
    return bool(reads.incoming)


def may_answer(r: Replica) -> bool:
    """Has the leader committed an entry of its term? (paper 8)"""
    return r.log.commit >= r.term_start


def on_tick(r: Replica) -> None:
    """Ask again for what may have been lost on the way."""
    if ticks_until_retry(r) is None:
        return
    r.reads.retry_ticks += 1
    if r.reads.retry_ticks >= r.options.heartbeat_ticks:
        _request(r)


def ticks_until_retry(r: Replica) -> int | None:
    """When `on_tick` will ask again; None while there is nothing to ask."""
    reads = r.reads
    if r.role is Role.LEADER or not reads.asked or r.leader == NOBODY:
        return None
    return r.options.heartbeat_ticks - reads.retry_ticks


def on_request(r: Replica, m: ReadIndexRequest) -> None:
    """A follower asks."""
    if r.role is not Role.LEADER:
        return
    if _settles(r, m.sender) and may_answer(r):
        r.send(ReadIndexResponse(r.id, m.sender, r.term, m.session, m.sequence, r.log.commit))
    else:
        source = (m.sender, m.session)
        if source in r.reads.remote or len(r.reads.remote) < r.options.sessions_max:
            r.reads.remote[source] = max(m.sequence, r.reads.remote.get(source, 0))


def _settles(r: Replica, sender: MemberId) -> bool:
    """Is the question itself the answer of the majority that is needed, the leader included?

    A voter that asks in this term had given no vote in a later one when its reads came.
    """
    voters = r.membership.voters
    return r.membership.majority <= 2 and sender in voters and r.id in voters


def on_response(r: Replica, m: ReadIndexResponse) -> None:
    """The leader answers; an answer to a former life of this member is not ours."""
    reads = r.reads
    if m.session != r.session:
        return
    while reads.asked and reads.asked[0][0] <= m.sequence:
        _, contexts = reads.asked.popleft()
        _serve(r, contexts, m.index)
    reads.retry_ticks = 0


def on_heartbeat_response(r: Replica, m: HeartbeatResponse) -> None:
    """One more member says that the leader still leads."""
    if r.role is Role.LEADER and m.sender in r.progress:
        r.reads.acks[m.sender] = max(m.round, r.reads.acks.get(m.sender, 0))
        release(r)


def release(r: Replica) -> None:
    """Serve every round that a majority has confirmed."""
    reads = r.reads
    if not reads.rounds:
        return
    confirmed = confirmed_round(r)
    while reads.rounds and reads.rounds[0].number <= confirmed:
        done = reads.rounds.popleft()
        _serve(r, done.local, done.index)
        for (member, session), sequence in done.remote.items():
            r.send(ReadIndexResponse(r.id, member, r.term, session, sequence, done.index))


def confirmed_round(r: Replica) -> int:
    """The newest round that a majority of voters has answered; the leader answers at once."""
    acks = r.reads.acks | {r.id: r.reads.round}
    numbers = sorted((acks.get(member, 0) for member in r.membership.voters), reverse=True)
    return numbers[r.membership.majority - 1]


def _begin_round(r: Replica) -> None:
    reads = r.reads
    reads.round += 1
    remote: dict[tuple[MemberId, int], int] = reads.remote
    reads.rounds.append(Round(reads.round, r.log.commit, reads.incoming, remote))
    reads.incoming, reads.remote = [], {}
    send_heartbeats(r)
    release(r)


def _request(r: Replica) -> None:
    newest, _ = r.reads.asked[-1]
    r.reads.retry_ticks = 0
    r.send(ReadIndexRequest(r.id, r.leader, r.term, r.session, newest))


def _serve(r: Replica, contexts: list[int], index: Index) -> None:
    r.reads.count -= len(contexts)
    r.out.reads.extend(ReadState(context, index) for context in contexts)
