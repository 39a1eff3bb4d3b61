"""The only member of a cluster of one: what Raft comes to when a quorum is oneself.

Plain calls, no thread and no clock, so that tests drive the very code that `raft.node` runs on
its log thread. The order that keeps promises: append (fsync) -> committed -> apply; an entry is
cut only when the state machine holds it durably.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raft.interface import Entry, Index, LogError, StateMachine, Term
from raft.storage import HardState, LogStorage


@dataclass(frozen=True, slots=True)
class RetentionOptions:
    """How much of the log is kept behind the state machine's durable index.

    The newest entries stay for followers that lag, while they are fewer and smaller than this;
    the rest goes in slices, within the transaction of an append, so that it costs no fsync.
    """

    entries_kept: int = 5_000
    bytes_kept: int = 64 << 20
    slice_entries_max: int = 1_000
    replay_bytes_max: int = 4 << 20


class SoleMember:
    """Drives a `StateMachine` from a `LogStorage`. One thread at a time."""

    def __init__(
        self, storage: LogStorage, machine: StateMachine, retention: RetentionOptions
    ) -> None:
        self._storage = storage
        self._machine = machine
        self._retention = retention
        self._term = Term(0)
        self._commit_index = Index(0)

    @property
    def term(self) -> Term:
        """The term it leads, 0 before `lead`."""
        return self._term

    @property
    def commit_index(self) -> Index:
        """Everything up to here is durable."""
        return self._commit_index

    def check(self) -> None:
        """See that log and state machine belong together. Raises `LogError`; changes nothing."""
        applied = self._machine.applied_index()
        first, last = self._storage.first_index, self._storage.last_index
        if applied < first - 1:
            raise LogError(
                f"the store has applied entry {applied} but {self._storage.path} begins at entry"
                f" {first}: the store is older than the log, restore both from one backup"
            )
        if applied > last:
            raise LogError(
                f"the store has applied entry {applied} but {self._storage.path} ends at entry"
                f" {last}: the log is older than the store, restore both from one backup"
            )
        self._commit_index = max(self._storage.hard_state.commit_index, applied)

    def lead(self) -> None:
        """Begin a new term with its own first entry, and with it commit all that is in the log.

        The append's fsync also covers entries that an earlier process wrote but did not get to
        sync, so that none of them is applied before it is durable.
        """
        last = self._storage.last_index
        term = Term(max(self._storage.hard_state.term, self._storage.last_term) + 1)
        first = Entry(Index(last + 1), term, b"")
        hard_state = HardState(term, self._storage.member_id, max(last, self._commit_index))
        self._storage.append([first], hard_state=hard_state)
        self._term = term
        self._commit_index = first.index

    def replay(self) -> None:
        """Hand the state machine every committed entry that it lacks."""
        index = Index(self._machine.applied_index() + 1)
        while index <= self._commit_index:
            entries = self._storage.entries(
                index, self._commit_index, self._retention.replay_bytes_max
            )
            self._machine.apply(entries)
            index = Index(entries[-1].index + 1)

    def append(self, commands: Sequence[bytes]) -> list[Entry]:
        """Make commands durable, and so committed; the caller hands them to `apply`."""
        index, term = self._storage.last_index, self._term
        entries = [
            Entry(Index(index + offset), term, command)
            for offset, command in enumerate(commands, start=1)
        ]
        self._storage.append(entries, cut_through=self._cut_through())
        self._commit_index = entries[-1].index
        return entries

    def apply(self, entries: Sequence[Entry]) -> None:
        """Hand committed entries to the state machine."""
        self._machine.apply(entries)

    def _cut_through(self) -> Index | None:
        keep = self._retention
        index = self._storage.cuttable(
            self._machine.durable_index(),
            keep.entries_kept,
            keep.bytes_kept,
            keep.slice_entries_max,
        )
        return index if index >= self._storage.first_index else None
