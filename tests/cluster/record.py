"""What clients of a cluster saw, and whether one store could have shown it to them.

Any thread records; `check` runs when nobody does. The revisions in the answers say the order that
the cluster claims: `check` holds every answer against that order, against real time (an operation
that ended before another began comes before it), and against what was ever sent; single-key
histories are searched once more without trusting any revision.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

from tests.sim.history import NEVER_US, Operation, linearizable

NEVER = float("inf")
US = 1_000_000


@dataclass(frozen=True, slots=True)
class Event:
    """A change as a watcher sees it; `value` is None for a deletion."""

    revision: int
    key: bytes
    value: bytes | None


@dataclass(slots=True)
class Op:
    """A call. A write carries a value never used before, so an event tells which call made it."""

    client: int
    kind: str
    """put, cas (a put that holds if the key is as it was at `expected`) or get."""
    key: bytes
    value: bytes | None
    """Written, or for a get what was found."""
    expected: int = 0
    begin: float = 0.0
    end: float = NEVER
    revision: int = 0
    """The answer's; 0 without an answer."""
    mod_revision: int = 0
    """Of what a get found."""
    took: bool = True
    """Did the compare of a cas hold?"""
    error: str = ""

    @property
    def writes(self) -> bool:
        return self.kind != "get" and self.took


@dataclass(slots=True)
class Record:
    """Every call of every client."""

    ops: list[Op] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(
        self, client: int, kind: str, key: bytes, value: bytes | None, expected: int = 0
    ) -> Op:
        """A call that is about to be sent."""
        op = Op(client, kind, key, value, expected)
        with self._lock:
            self.ops.append(op)
            op.begin = time.monotonic()
        return op

    def acknowledged(self, since: float = 0.0, until: float = NEVER) -> list[Op]:
        """Writes that were answered within a time, in the order of the answers."""
        with self._lock:
            done = [op for op in self.ops if op.writes and since <= op.end <= until]
        return sorted((op for op in done if op.end != NEVER), key=lambda op: op.end)

    def longest_gap(self, since: float, until: float) -> float:
        """Seconds between two acknowledged writes of anyone, at most, within a time."""
        ends = [since, *(op.end for op in self.acknowledged(since, until)), until]
        return max(after - before for before, after in itertools.pairwise(ends))

    def errors(self) -> dict[str, int]:
        """How often each error was met."""
        found: dict[str, int] = {}
        for op in self.ops:
            if op.error:
                found[op.error] = found.get(op.error, 0) + 1
        return found

    def check(self, history: list[Event]) -> None:
        """AssertionError unless all answers agree with the history and with real time."""
        by_revision = {event.revision: event for event in history}
        assert len(by_revision) == len(history), "one write makes one event"
        self._check_writes(by_revision)
        self._check_gets(history)
        self._check_real_time(by_revision)
        self._check_registers()

    def _check_writes(self, by_revision: dict[int, Event]) -> None:
        sent = {op.value: op for op in self.ops if op.kind != "get"}
        seen: set[bytes | None] = set()
        latest: dict[bytes, int] = {}
        for revision, event in sorted(by_revision.items()):
            op = sent.get(event.value)
            assert op is not None, f"nobody sent {event}"
            assert op.key == event.key, f"{op} became {event}"
            assert event.value not in seen, f"applied twice: {op}, again as {event}"
            assert op.took, f"refused but applied: {op} as {event}"
            if op.kind == "cas":
                before = latest.get(event.key, 0)
                assert before == op.expected, f"the compare did not hold at {before}: {op}"
            if op.revision:
                assert op.revision == revision, f"{op} was applied as {event}"
            seen.add(event.value)
            latest[event.key] = revision
        lost = [op for op in self.acknowledged() if op.value not in seen]
        assert not lost, f"{len(lost)} acknowledged and lost, first {lost[0]}"

    def _check_gets(self, history: list[Event]) -> None:
        by_key: dict[bytes, list[Event]] = {}
        for event in history:
            by_key.setdefault(event.key, []).append(event)
        for op in self.ops:
            if op.kind != "get" or not op.revision:
                continue
            older = [e for e in by_key.get(op.key, []) if e.revision <= op.revision]
            value, at = (older[-1].value, older[-1].revision) if older else (None, 0)
            assert (op.value, op.mod_revision) == (value, at), f"{op} should show {value!r}@{at}"

    def _check_real_time(self, by_revision: dict[int, Event]) -> None:
        """Go through time: an answer never shows less than any answer before its call began."""
        answered = [op for op in self.ops if op.revision]
        written = {op.value: op for op in self.ops if op.kind != "get"}
        begins = sorted(answered, key=lambda op: op.begin)
        ends = sorted(answered, key=lambda op: op.end)
        known, at = 0, 0
        for op in begins:
            while at < len(ends) and ends[at].end < op.begin:
                known, at = max(known, ends[at].revision), at + 1
            if op.writes:
                assert op.revision > known, f"{op} began after revision {known} was answered"
            else:
                assert op.revision >= known, f"stale: {op} began after {known} was answered"
        # A revision that an answer showed must have been made by a call that had begun.
        latest_begin, latest = 0.0, by_revision[min(by_revision)] if by_revision else None
        upto: dict[int, tuple[float, Event | None]] = {}
        for revision, event in sorted(by_revision.items()):
            begin = written[event.value].begin
            if begin > latest_begin:
                latest_begin, latest = begin, event
            upto[revision] = latest_begin, latest
        for op in answered:
            begin, maker = upto.get(op.revision, (0.0, None))
            assert begin <= op.end, f"{op} shows {maker} before anybody asked for it"

    def _check_registers(self) -> None:
        numbers: dict[bytes | None, int] = {None: 0}
        for op in self.ops:
            if op.kind != "get":
                numbers.setdefault(op.value, len(numbers))
        for key in sorted({op.key for op in self.ops}):
            mine = [op for op in self.ops if op.key == key]
            if any(op.kind == "cas" for op in mine):
                continue
            found = [
                Operation(
                    op.client,
                    key.decode(),
                    op.kind == "put",
                    numbers[op.value],
                    int(op.begin * US),
                    int(op.end * US) if op.end != NEVER else NEVER_US,
                )
                for op in mine
                if op.kind == "put" or op.revision
            ]
            assert linearizable(found), f"the history of {key!r} is not linearizable"
