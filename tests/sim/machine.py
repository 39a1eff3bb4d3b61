"""The replicated state machine of the simulation: a few registers, and who is a member."""

from __future__ import annotations

from dataclasses import dataclass, field

from raft.core import ConfChange, Entry, EntryKind, Membership
from raft.interface import Index, ProposalDropped, Term


class TwiceApplied(AssertionError):
    """A command was applied a second time."""


def put(number: int, key: str, value: int) -> bytes:
    """A command; `number` is its own for ever."""
    return f"{number} {key} {value}".encode()


@dataclass(slots=True)
class Registers:
    """Applies entries; deterministic. `copy` is a consistent commit, as a database makes."""

    index: Index
    term: Term
    membership: Membership
    values: dict[str, int] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def apply(self, entry: Entry) -> int | None:
        """Apply the next entry; returns the command's number, if it is one."""
        if entry.index != self.index + 1:
            raise AssertionError(f"entry {entry.index} applied after {self.index}")
        self.index, self.term = entry.index, entry.term
        if entry.kind is EntryKind.CONF_CHANGE:
            try:
                self.membership = self.membership.after(ConfChange.decode(entry.data))
            except ProposalDropped:
                return None
            return None
        if not entry.data:
            return None
        number, key, value = entry.data.decode().split()
        if int(number) in self.seen:
            raise TwiceApplied(f"command {number} was applied again by entry {entry.index}")
        self.seen.add(int(number))
        self.values[key] = int(value)
        return int(number)

    def copy(self) -> Registers:
        """What a snapshot or a checkpoint holds."""
        return Registers(self.index, self.term, self.membership, dict(self.values), set(self.seen))
