"""What a leader knows of each follower, and how much it may send it.

    state      sends                          leaves by
    PROBE      one request, then waits        a match -> REPLICATE
    REPLICATE  a pipeline, up to the limits   a conflict or a lost message -> PROBE
    SNAPSHOT   nothing                        the snapshot's end -> PROBE; a match -> REPLICATE

PROBE finds where the logs agree (paper 5.3); REPLICATE is the pipelining of thesis 10.2.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from raft.core.types import NO_INDEX, InvariantBroken
from raft.interface import Index


class Flow(Enum):
    """How a follower is sent entries; see the module."""

    PROBE = auto()
    REPLICATE = auto()
    SNAPSHOT = auto()


@dataclass(slots=True)
class Inflights:
    """Requests sent and not answered: (last index, bytes) of each, oldest first."""

    messages_max: int
    bytes_max: int
    bytes: int = 0
    sent: deque[tuple[Index, int]] = field(default_factory=deque)

    @property
    def full(self) -> bool:
        """May nothing more be sent? One request may pass the limit of bytes."""
        return len(self.sent) >= self.messages_max or self.bytes >= self.bytes_max

    def add(self, last: Index, size: int) -> None:
        """A request that ends with `last` has left."""
        if self.full:
            raise InvariantBroken("a request was sent over the limit")
        self.sent.append((last, size))
        self.bytes += size

    def free_through(self, index: Index) -> None:
        """Everything up to `index` is answered."""
        while self.sent and self.sent[0][0] <= index:
            self.bytes -= self.sent.popleft()[1]

    def clear(self) -> None:
        """Nothing is on its way any more."""
        self.sent.clear()
        self.bytes = 0


@dataclass(slots=True)
class Progress:
    """One follower. Always match < next; `paused` waits for an answer."""

    inflights: Inflights
    next: Index
    match: Index = NO_INDEX
    flow: Flow = Flow.PROBE
    paused: bool = False
    recent_active: bool = False
    sent_commit: Index = NO_INDEX
    pending_snapshot: Index = NO_INDEX

    @property
    def can_send(self) -> bool:
        """May a request leave now?"""
        return self.flow is not Flow.SNAPSHOT and not self.paused

    def become_probe(self) -> None:
        """Find again where the logs agree; after a snapshot, behind it."""
        behind = self.pending_snapshot if self.flow is Flow.SNAPSHOT else NO_INDEX
        self._become(Flow.PROBE)
        self.next = Index(max(self.match, behind) + 1)
        self.sent_commit = Index(min(self.sent_commit, self.next - 1))

    def become_replicate(self) -> None:
        """The logs agree up to `match`: send ahead."""
        self._become(Flow.REPLICATE)
        self.next = Index(self.match + 1)

    def become_snapshot(self, index: Index) -> None:
        """What the follower lacks was cut; a snapshot of at least `index` is on its way."""
        self._become(Flow.SNAPSHOT)
        self.pending_snapshot = index

    def sent(self, count: int, size: int) -> None:
        """A request with so many entries has left."""
        if self.flow is Flow.REPLICATE:
            if count:
                self.next = Index(self.next + count)
                self.inflights.add(Index(self.next - 1), size)
        elif count:
            self.paused = True

    def lacks_commit(self, commit: Index) -> bool:
        """Would a newer commit index tell the follower something?"""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def matched(self, index: Index) -> bool:
        """The follower has confirmed `index`; True when that is new."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, Index(index + 1))
        self.paused = False
        return True

    def rejected(self, index: Index, hint: Index) -> bool:
        """The follower has no match at `index`; False when the answer is an old one."""
        if self.flow is Flow.REPLICATE:
            if index <= self.match:
                return False
            self.next = Index(self.match + 1)
        else:
            if self.next - 1 != index:
                return False
            self.next = Index(max(min(index, hint + 1), self.match + 1))
            self.paused = False
        self.sent_commit = Index(min(self.sent_commit, self.next - 1))
        return True

    def _become(self, flow: Flow) -> None:
        self.flow = flow
        self.paused = False
        self.pending_snapshot = NO_INDEX
        self.inflights.clear()


def quorum_index(matches: Iterable[Index]) -> Index:
    """The highest index that a majority has reached."""
    ordered = sorted(matches)
    return ordered[(len(ordered) - 1) // 2]
