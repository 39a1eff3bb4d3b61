"""What clients saw, and whether one register could have behaved so (linearizability).

Every write has a value of its own. A write whose outcome is unknown may have happened at any time
after it was asked, or never; a read without an answer tells nothing. Each key is checked alone, as
linearizability is local. The search is Wing and Gong's, with Lowe's memory of states seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NEVER_US = 1 << 62


@dataclass(slots=True)
class Operation:
    """A put or a get; `value` of a get is what it returned."""

    client: int
    key: str
    is_put: bool
    value: int
    begin_us: int
    end_us: int = NEVER_US
    failed: bool = False

    @property
    def counts(self) -> bool:
        """Does it constrain or change anything?"""
        return not self.failed and (self.is_put or self.end_us != NEVER_US)


@dataclass(slots=True)
class History:
    """All operations of a run."""

    operations: list[Operation] = field(default_factory=list)

    def begin(self, client: int, key: str, value: int, now_us: int, *, is_put: bool) -> Operation:
        """An operation begins."""
        operation = Operation(client, key, is_put, value, now_us)
        self.operations.append(operation)
        return operation

    def violation(self) -> str | None:
        """The first key whose history no register can have, told in words; else None."""
        for key in sorted({operation.key for operation in self.operations}):
            chosen = [o for o in self.operations if o.key == key and o.counts]
            if not linearizable(chosen):
                lines = "\n".join(f"  {o}" for o in sorted(chosen, key=lambda o: o.begin_us))
                return f"the history of {key!r} is not linearizable:\n{lines}"
        return None


def linearizable(operations: list[Operation], initial: int = 0) -> bool:
    """Is there an order that a single register would have taken?

    A write must have happened before the first read of its value ended. One of unknown outcome that
    nobody read is left out: it can only stand in the way.
    """
    read_by: dict[int, int] = {}
    for o in operations:
        if not o.is_put:
            read_by[o.value] = min(o.end_us, read_by.get(o.value, NEVER_US))
    spans = sorted(
        (o.begin_us, min(o.end_us, read_by.get(o.value, NEVER_US)), o.is_put, o.value)
        for o in operations
    )
    spans = [span for span in spans if span[1] != NEVER_US]
    everything = (1 << len(spans)) - 1
    stack = [(0, initial)]
    seen = set(stack)
    while stack:
        done, value = stack.pop()
        if done == everything:
            return True
        horizon = NEVER_US
        at = (~done & (done + 1)).bit_length() - 1
        # Nothing that began after another's end may come before it.
        while at < len(spans) and spans[at][0] <= horizon:
            _, end, is_put, new = spans[at]
            if not done >> at & 1:
                horizon = min(horizon, end)
                state = (done | 1 << at, new)
                if (is_put or new == value) and state not in seen:
                    seen.add(state)
                    stack.append(state)
            at += 1
    return False
