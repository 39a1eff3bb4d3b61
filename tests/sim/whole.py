"""What a run on the production code has beside the clients of its registers, and what must be true.

More commands, watchers and leases while it runs; at the end every store is what the log says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kvshim.apply.outcome import BatchOutcome
from kvshim.apply.outcome import Outcome as ApplyOutcome
from raft.core import Entry
from tests.sim.commands import Others
from tests.sim.truth import Truth
from tests.sim.whole_member import WholeMember
from tests.sim.world import World


@dataclass(slots=True)
class Whole:
    """See the module."""

    world: World
    members: dict[int, WholeMember]
    others: Others = field(init=False)

    def __post_init__(self) -> None:
        self.others = Others(self.world, self.members)

    def start(self) -> None:
        """Begin."""
        self.others.start()

    def calm_down(self, members: Iterable[int]) -> None:
        """Nothing new from here on."""
        self.others.stopped = True

    def on_start(self, member: WholeMember) -> None:
        """A process begins."""

        def outcome(told: ApplyOutcome) -> None:
            if isinstance(told, BatchOutcome):
                for number, _ in told.answers:
                    member.tell.applied(member.id, number)

        member.on_outcome = outcome

    def check(self, committed: Sequence[Entry], members: Iterable[int]) -> None:
        """All of these hold what the log says."""
        truth = Truth.of(committed)
        for number in members:
            difference = truth.differs(self.members[number].store)
            assert difference is None, f"{number} differs from the log: {difference}"
