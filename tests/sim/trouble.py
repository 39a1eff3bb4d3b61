"""What goes wrong in a run: one trouble after another, by chance, most of them mended later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from raft.core import ChangeKind, ConfChange, MemberId, Node, Role
from raft.interface import ProposalDropped
from tests.sim.member import Member, Speed
from tests.sim.network import Network
from tests.sim.world import World


class Mood(Enum):
    """What kind of trouble a run has most of."""

    MIXED = "mixed"
    CHURN = "churn"
    """Leaders fall while they replicate, and the next stands at once: many short terms."""
    MOVES = "moves"
    """Members come and go while the network is split."""
    CALM = "calm"
    """Long, and little but new leaders: leases grow old enough to matter."""


TROUBLED = (Mood.MIXED, Mood.CHURN, Mood.MOVES)


@dataclass(slots=True)
class Trouble:
    """Troubles `members` every now and then until `stopped`."""

    world: World
    network: Network
    members: dict[int, Member]
    mood: Mood
    files: bool
    """Disks may get full or slow too."""
    churn_us: float = 60_000
    removals: int = 1_000_000
    """How many changes that remove somebody for good may be tried."""
    stopped: bool = False

    def start(self) -> None:
        """Begin."""
        self._later()

    def mend(self) -> None:
        """Everything works again from here on."""
        self.stopped = True
        self.network.cut.clear()
        self.network.weather.loss = self.network.weather.repeat = self.network.weather.slow = 0.0
        for member in self.members.values():
            member.disk.make_room()
            member.paused_until_us = 0
            member.speed = Speed(clock=member.speed.clock)
            self._restart(member)

    def leader(self) -> Member | None:
        """One that believes to lead, if any."""
        for member in self._up():
            if member.replica.role is Role.LEADER:
                return member
        return None

    def _later(self) -> None:
        pause_us = self.churn_us if self.mood is Mood.CHURN else 500_000
        self.world.after(self.world.between(pause_us / 10, pause_us), self._strike)

    def _strike(self) -> None:
        if self.stopped:
            return
        if self.mood is Mood.CHURN and self.leader() is None and self.world.chance(0.9):
            # Nobody to overthrow yet: help somebody up.
            if self.world.chance(0.2):
                self._campaign()
            self._later()
            return
        mixed: list[Callable[[], None]] = [
            self._crash,
            self._crash,
            self._crash_leader,
            self._crash_all,
            self._isolate,
            self._isolate_leader,
            self._split,
            self._cut_one_way,
            self._pause,
            self._transfer,
            self._change,
            self._change,
            self._cut_logs,
            self._cut_logs,
            self._checkpoint,
            self._heal,
            self._campaign,
        ]
        match self.mood:
            case Mood.MIXED:
                troubles = mixed
            case Mood.CHURN:
                troubles = [self._blackout] * 3 + [self._overthrow, self._cut_some, self._cut_logs]
            case Mood.MOVES:
                troubles = [self._changes] * 4 + [self._split] * 2 + [*mixed[-7:], self._crash]
            case Mood.CALM:
                troubles = [self._checkpoint, self._cut_logs]
        if self.files and self.mood is not Mood.CALM:
            troubles += [self._fill_disk, self._slow_disk]
            troubles += [self._crash_installer] * (1 if self.mood is Mood.CHURN else 5)
        self.world.random.choice(troubles)()
        self._later()

    def _up(self) -> list[Member]:
        return [member for _, member in sorted(self.members.items()) if member.up]

    def _any(self) -> Member | None:
        up = self._up()
        return self.world.random.choice(up) if up else None

    def _stop(self, member: Member) -> None:
        member.stop(power=self.world.chance(0.5))
        self.world.after(self.world.between(10_000, 1_500_000), lambda: self._restart(member))

    def _restart(self, member: Member) -> None:
        if not member.up:
            member.start()

    def _cut_some(self) -> None:
        """Some links, each way for itself, for a moment: members hear different things."""
        links = {(a, b) for a in self.members for b in self.members if self.world.chance(0.4)}
        self.network.cut |= links
        self.world.after(self.world.between(2_000, 30_000), self._heal)

    def _blackout(self) -> None:
        """All fall; some are back at once, and one of these stands; others miss a term or two."""
        up = self._up()
        random = self.world.random
        early = [member for member in up if random.random() < 0.7]
        for member in up:
            member.stop(power=self.world.chance(0.5))
            span = (500, 2_000) if member in early else (12_000, 60_000)
            self.world.after(self.world.between(*span), lambda m=member: self._restart(m))
        if early:
            candidate = random.choice(early)
            self.world.after(2_500, lambda: candidate.run(lambda node: node.campaign()))

    def _overthrow(self) -> None:
        """The leader and some more restart in a moment, remembering no leader, and one stands."""
        up = self._up()
        self.world.random.shuffle(up)
        up.sort(key=lambda member: member.replica.role is not Role.LEADER)
        fallen = up[: len(up) // 2 + 1]
        for member in fallen:
            member.stop(power=self.world.chance(0.5))
            self.world.after(self.world.between(500, 5_000), lambda m=member: self._restart(m))
        if fallen:
            candidate = self.world.random.choice(fallen)
            after = self.world.between(5_000, 10_000)
            self.world.after(after, lambda: candidate.run(lambda node: node.campaign()))

    def _crash(self) -> None:
        member = self._any()
        if member is not None:
            self._stop(member)

    def _crash_leader(self) -> None:
        leader = self.leader()
        if leader is not None:
            self._stop(leader)

    def _crash_all(self) -> None:
        if self.world.chance(0.3):
            for member in self._up():
                self._stop(member)

    def _cut(self, links: set[tuple[int, int]]) -> None:
        self.world.say("links are cut:", sorted(links))
        self.network.cut |= links

        def mend() -> None:
            self.network.cut -= links

        self.world.after(self.world.between(50_000, 2_000_000), mend)

    def _links(self, some: list[int], others: list[int]) -> set[tuple[int, int]]:
        return {(a, b) for a in some for b in others} | {(b, a) for a in some for b in others}

    def _isolate(self) -> None:
        one = self.world.random.choice(sorted(self.members))
        self._cut(self._links([one], [other for other in self.members if other != one]))

    def _isolate_leader(self) -> None:
        leader = self.leader()
        if leader is not None:
            others = [other for other in self.members if other != leader.id]
            self._cut(self._links([leader.id], others))

    def _split(self) -> None:
        ids = sorted(self.members)
        self.world.random.shuffle(ids)
        at = self.world.random.randrange(1, len(ids)) if len(ids) > 1 else 0
        self._cut(self._links(ids[:at], ids[at:]))

    def _cut_one_way(self) -> None:
        one = self.world.random.choice(sorted(self.members))
        others = [other for other in self.members if other != one]
        links = {(one, other) for other in others}
        self._cut(links if self.world.chance(0.5) else {(b, a) for a, b in links})

    def _heal(self) -> None:
        self.network.cut.clear()

    def _pause(self) -> None:
        member = self._any()
        if member is not None:
            self.world.say(member.id, "is paused")
            until = self.world.now_us + int(self.world.between(50_000, 1_500_000))
            member.paused_until_us = until

    def _campaign(self) -> None:
        member = self._any()
        if member is not None:
            member.run(lambda node: node.campaign())

    def _transfer(self) -> None:
        leader = self.leader()
        if leader is None:
            return
        to = self.world.random.choice(sorted(self.members))
        self._ask(leader, lambda node: node.transfer_leadership(MemberId(to)))

    def _change(self) -> None:
        """Any change the leader takes: it refuses what would be unsafe."""
        leader = self.leader()
        if leader is None:
            return
        kind = self.world.random.choice(list(ChangeKind))
        member = MemberId(self.world.random.choice(sorted(self.members)))
        voters = len(leader.replica.membership.voters)
        removes = kind in (ChangeKind.REMOVE, ChangeKind.DEMOTE)
        if (removes and voters <= 2) or member in leader.removed():
            return
        if kind is ChangeKind.REMOVE and self.removals == 0:
            return
        self.removals -= kind is ChangeKind.REMOVE
        self._ask(leader, lambda node: node.propose_change(ConfChange(kind, member)) and None)

    def _changes(self) -> None:
        """Several at once, of which the leader takes one; then a part is cut off."""
        for _ in range(3):
            self._change()
        if self.world.chance(0.7):
            self._split()

    def _ask(self, member: Member, action: Callable[[Node], None]) -> None:
        def ask(node: Node) -> None:
            try:
                action(node)
            except ProposalDropped as error:
                self.world.say(member.id, "refuses:", error)

        member.run(ask)

    def _fill_disk(self) -> None:
        """A member soon stops; later there is room, and somebody starts it again."""
        member = self._any()
        if member is None:
            return
        self.world.say(member.id, "has a full disk")
        member.disk.fill()

        def mend() -> None:
            member.disk.make_room()
            self._restart(member)

        self.world.after(self.world.between(50_000, 1_500_000), mend)

    def _crash_installer(self) -> None:
        """A member is left behind until it needs a snapshot, and falls while it writes that."""
        one = self._any()
        if one is None:
            return
        links = self._links([one.id], [other for other in self.members if other != one.id])
        self.network.cut |= links

        def fall() -> None:
            one.when_installing = None
            if one.up and not self.stopped:
                self._stop(one)

        def mend() -> None:
            self.network.cut -= links
            self._checkpoint()

        one.when_installing = fall
        span_us = self.world.between(200_000, 1_000_000)
        self.world.after(span_us / 2, self._checkpoint)
        self.world.after(span_us, mend)

    def _slow_disk(self) -> None:
        member = self._any()
        if member is None:
            return
        self.world.say(member.id, "has a slow disk")
        speed = member.speed
        usual, speed.write_us = speed.write_us, (100_000, 1_500_000)

        def mend() -> None:
            speed.write_us = usual

        self.world.after(self.world.between(500_000, 2_000_000), mend)

    def _checkpoint(self) -> None:
        for member in self._up():
            member.disk.make_checkpoint()

    def _cut_logs(self) -> None:
        for member in self._up():
            if self.world.chance(0.6):
                member.disk.make_checkpoint()
                member.disk.cut_log(self.world.random.randrange(6))
