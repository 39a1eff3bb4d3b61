"""The properties of Raft (paper, figure 3), checked on the whole cluster after every step.

Checks are incremental: each looks only at what the step changed. A property that fails raises
`Unsafe` at once, at the step that broke it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from raft.core import Entry, Ready, Role
from raft.core.replica import Replica
from raft.interface import Index, Term


class Unsafe(AssertionError):
    """A safety property does not hold."""


@dataclass(slots=True)
class Safety:
    """What an omniscient observer remembers. `committed` begins with the entry `first`."""

    first: Index
    leaders: dict[Term, int] = field(default_factory=dict)
    led_to: dict[tuple[int, Term], Index] = field(default_factory=dict)
    entries: dict[tuple[Index, Term], tuple[Entry, Term]] = field(default_factory=dict)
    committed: list[Entry] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    known: dict[tuple[int, int], Index] = field(default_factory=dict)
    on_commit: Callable[[Entry], None] = lambda _: None
    """Told every entry once, in order, when the first member knows that it is committed."""

    def stepped(self, member: int, life: int, r: Replica) -> None:
        """A member has taken an input."""
        if r.role is Role.LEADER:
            self._leads(member, r)
        known = self.known.get((member, life), min(self.first - 1, r.log.commit))
        if r.log.commit != known:
            if r.log.commit < known:
                raise Unsafe(f"{member} takes back its commit index {known} to {r.log.commit}")
            self._commits(member, r, Index(max(known + 1, r.log.first_index)))
            self.known[member, life] = r.log.commit

    def writes(self, member: int, r: Replica, ready: Ready) -> None:
        """Log matching: (index, term) names one entry, and the one before it."""
        for position, entry in enumerate(ready.entries):
            if position:
                before = ready.entries[position - 1].term
            else:
                before = r.log.term_at(Index(entry.index - 1))
            seen = self.entries.setdefault((entry.index, entry.term), (entry, before))
            if seen != (entry, before):
                raise Unsafe(f"log matching: {member} holds {entry} after {before}, not {seen}")

    def applies(self, member: int, entry: Entry) -> None:
        """State machine safety: only what is committed, and what everybody applies there."""
        at = entry.index - self.first
        if at >= len(self.committed):
            raise Unsafe(f"state machine safety: {member} applies {entry}, which nobody committed")
        if self.committed[at] != entry:
            raise Unsafe(
                f"state machine safety: {member} applies {entry}, not {self.committed[at]}"
            )

    def _commits(self, member: int, r: Replica, index: Index) -> None:
        while index <= r.log.commit:
            for entry in r.log.entries(index, r.log.commit, 1 << 30):
                self._commit(member, entry)
                index = Index(entry.index + 1)

    def _commit(self, member: int, entry: Entry) -> None:
        at = entry.index - self.first
        if at == len(self.committed):
            self.committed.append(entry)
            self.terms.append(entry.term)
            self.on_commit(entry)
        elif at > len(self.committed):
            raise Unsafe(f"{member} commits {entry} before what lies before it")
        elif self.committed[at] != entry:
            raise Unsafe(f"{member} commits {entry}, but {self.committed[at]} is committed")

    def _leads(self, member: int, r: Replica) -> None:
        """Election safety, leader append-only, and at the beginning leader completeness."""
        last = r.log.last_index
        if r.term not in self.leaders:
            self.leaders[r.term] = member
            self._complete(member, r)
        elif self.leaders[r.term] != member:
            raise Unsafe(f"election safety: {self.leaders[r.term]} and {member} lead {r.term}")
        elif last < self.led_to[member, r.term]:
            raise Unsafe(f"leader append-only: {member} removed entries while leading {r.term}")
        self.led_to[member, r.term] = last

    def _complete(self, member: int, r: Replica) -> None:
        """All that was committed in earlier terms is in the log (paper 5.4.3)."""
        count = bisect_left(self.terms, r.term)
        if not count or self.committed[count - 1].index < r.log.first_index - 1:
            return
        last = self.committed[count - 1]
        if not r.log.matches(last.index, last.term):
            raise Unsafe(f"leader completeness: {member} leads {r.term} without {last}")
